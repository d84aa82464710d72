"""The promoted model, loaded from the registry by its alias, answers about an image; so does a server of it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pandas as pd
import pytest
from PIL import Image

from vistune import tracking


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A real model with random weights: what it says means nothing, but it is the same wherever it is loaded."""
    from vistune.models.families.small import tiny

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny(seed=1).save(folder)
    return folder


@pytest.fixture
def champion(tiny, make, go):
    return tracking.load_pyfunc(go(make(model=tiny), "served")["model_uri"])


def test_the_champion_answers_about_an_image(champion, tiny, tmp_path):
    from vistune.models import load_model
    from vistune.records import Message

    path = tmp_path / "scene.png"
    picture = Image.new("RGB", (64, 64), (0, 128, 255))
    picture.save(path)
    questions = ["What is in the picture?", "Is there a cat?"]
    forms = [str(path), base64.b64encode(path.read_bytes()).decode()]
    table = pd.DataFrame({"image": forms, "question": questions})
    model = load_model(tiny)
    expected = [model.generate([[Message("user", q, (0,))]], [[picture]], 6)[0] for q in questions]
    assert champion.predict(table, params={"max_new_tokens": 6}) == expected
    assert len(champion.predict(table)) == 2
    with pytest.raises(Exception, match="addresses are not fetched"):
        champion.predict(table.assign(image="http://example.org/x.png"))
    with pytest.raises(Exception, match="question"):
        champion.predict(table[["image"]])


@pytest.mark.parametrize("family", ["llava", "llava_uhd", "qwen_vl", "moai"])
def test_a_model_of_any_family_answers(family, tmp_path):
    """transformers' own class, several views an image, other chat templates, experts."""
    from vistune.models.vlm import build
    from vistune.promote.answerer import Answerer

    build(family, seed=2).save(tmp_path / "model")
    path = tmp_path / "scene.png"
    Image.radial_gradient("L").resize((90, 60)).convert("RGB").save(path)
    answerer = Answerer()
    answerer.load_context(SimpleNamespace(artifacts={"model": str(tmp_path / "model")}))
    rows = [{"image": str(path), "question": text} for text in ("What is it?", "Why?")]
    found = answerer.predict(None, rows, {"max_new_tokens": 4})
    assert len(found) == 2 and found == answerer.predict(None, rows, {"max_new_tokens": 4})


def ask(port: int, body: dict) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_server_of_mlflow_answers_the_same(tiny, make, go, tmp_path):
    uri = go(make(model=tiny), "server")["model_uri"]
    path = tmp_path / "scene.png"
    Image.new("RGB", (64, 64), (0, 128, 255)).save(path)
    encoded = base64.b64encode(path.read_bytes()).decode()
    table = pd.DataFrame({"image": [str(path), encoded], "question": ["What is in the picture?"] * 2})
    expected = tracking.load_pyfunc(uri).predict(table, params={"max_new_tokens": 6})
    assert expected[0] == expected[1]

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port)]
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    with open(tmp_path / "server.log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        late = time.monotonic() + 240
        while True:
            assert server.poll() is None and time.monotonic() < late, (tmp_path / "server.log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        rows = {"dataframe_split": table.to_dict(orient="split", index=False), "params": {"max_new_tokens": 6}}
        assert ask(port, rows) == {"predictions": expected}
        table["image"] = "http://example.org/x.png"
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(port, {"dataframe_split": table.to_dict(orient="split", index=False)})
        assert "addresses are not fetched" in refused.value.read().decode()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)
