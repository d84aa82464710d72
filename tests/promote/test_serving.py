"""The promoted model, loaded from the registry by its alias, answers about an image."""

from __future__ import annotations

import base64

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
    from vistune.models import generate, load_model

    path = tmp_path / "scene.png"
    picture = Image.new("RGB", (64, 64), (0, 128, 255))
    picture.save(path)
    questions = ["What is in the picture?", "Is there a cat?"]
    forms = [str(path), base64.b64encode(path.read_bytes()).decode()]
    table = pd.DataFrame({"image": forms, "question": questions})
    expected = [generate(load_model(tiny), picture, [q], 6)[0] for q in questions]
    assert champion.predict(table, params={"max_new_tokens": 6}) == expected
    assert len(champion.predict(table)) == 2
    with pytest.raises(Exception, match="addresses are not fetched"):
        champion.predict(table.assign(image="http://example.org/x.png"))
    with pytest.raises(Exception, match="question"):
        champion.predict(table[["image"]])
