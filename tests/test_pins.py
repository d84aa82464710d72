"""References that may move: data under DVC at a revision, models of a hub over HTTP, folders."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vistune import lineage, pins
from vistune.errors import VistuneError
from vistune.pins import Tracked

SHA = {"main": "1" * 40, "v2": "2" * 40}


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does when it is asked for a model at a revision."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        name, _, revision = self.path.removeprefix("/api/models/").partition("/revision/")
        status, headers = server.status, {}
        if status == 200 and name != "org/model":
            status, headers = 404, {"X-Error-Code": "RepoNotFound"}
        elif status == 200 and revision not in SHA:
            status, headers = 404, {"X-Error-Code": "RevisionNotFound"}
        data = json.dumps({"id": name, "sha": SHA.get(revision, "")} if status == 200 else {"error": "no"}).encode()
        self.send_response(status)
        for key, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.status = [], 200
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_of_the_hub_gets_its_commit(hub):
    assert pins.hub("org/model") == f"org/model@{SHA['main']}"
    assert pins.hub("org/model@v2") == f"org/model@{SHA['v2']}"
    assert [path for path in hub.asked if "models" in path] == [
        f"/api/models/org/model/revision/{revision}" for revision in ("main", "v2")
    ]


def test_what_never_moves_is_not_asked_about(hub, tmp_path):
    (tmp_path / "org/local").mkdir(parents=True)
    for reference in (f"org/model@{'a' * 40}", "package:smollm2-135m-instruct", "/models/mine", "", "org/local"):
        assert pins.hub(reference) == reference
    assert hub.asked == []


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("org/none", "the hub has no model org/none at main"),
        ("org/model@v9", "the hub has no model org/model at v9"),
    ],
)
def test_what_the_hub_does_not_have(hub, reference, said):
    with pytest.raises(VistuneError, match=said):
        pins.hub(reference)


@pytest.mark.parametrize("how", ["503", "nobody", "offline"])
def test_a_hub_that_does_not_answer_is_one_sentence_unless_the_cache_knows(hub, how, monkeypatch, tmp_path, capsys):
    if how == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    elif how == "nobody":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    else:
        hub.status = 503
        monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(VistuneError, match=r"does not say which commit of org/model main is .* name the commit"):
        pins.hub("org/model")
    cached = tmp_path / "hub/models--org--model"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text(SHA["main"])
    (cached / "snapshots" / SHA["main"]).mkdir(parents=True)
    (cached / "snapshots" / SHA["main"] / "config.json").write_text("{}")
    assert pins.hub("org/model") == f"org/model@{SHA['main']}"
    assert "is what the cache has" in capsys.readouterr().out


def test_a_folder_is_known_by_its_bytes(tmp_path):
    from vistune.tune import Params

    (tmp_path / "lm").mkdir()
    (tmp_path / "lm/config.json").write_text("{}")
    params = Params(language=str(tmp_path / "lm"), vision=f"org/tower@{'c' * 40},package:x")
    first = pins.held("tune", params)
    assert first["vision"].startswith("org/tower@") and first["language"].startswith("sha256:")
    (tmp_path / "lm/config.json").write_text("{ }")
    assert pins.held("tune", params)["language"] != first["language"]
    assert pins.held("tune", Params(language="/models/elsewhere")) == {}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """A git repository whose `data` is under DVC: at v1 and, changed, at main."""
    root = tmp_path_factory.mktemp("shelf")

    from dvc.repo import Repo

    def git(*command: str) -> None:
        subprocess.run(["git", "-C", str(root), *command], check=True, capture_output=True)

    def commit(text: str) -> None:
        (root / "data/sub").mkdir(parents=True, exist_ok=True)
        (root / "data/a.txt").write_text(text)
        (root / "data/sub/b.bin").write_bytes(bytes(range(9)))
        (root / "one.json").write_text(f'["{text}"]')
        with Repo(str(root)) as repo:
            repo.add([str(root / "data"), str(root / "one.json")])
        git("add", "-A")
        git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", text)

    git("init", "-q", "-b", "main")
    Repo.init(str(root)).close()
    commit("first")
    git("tag", "v1")
    commit("second")
    return root


def test_data_under_dvc_gets_commit_and_md5(shelf, tmp_path):
    moving = Tracked(str(shelf), "data", "v1")
    first = lineage.pin(moving)
    assert first.pinned and first.md5.endswith(".dir")
    assert lineage.pin(first) == first, "a pinned reference stays what it is"
    newest = lineage.pin(Tracked(str(shelf), "data"))
    assert newest.md5 == lineage.dvc_md5(shelf / "data") != first.md5
    place = lineage.fetch(first, tmp_path)
    assert (place / "a.txt").read_text() == "first" and (place / "sub/b.bin").stat().st_size == 9
    assert lineage.dvc_md5(place) == first.md5
    one = lineage.pin(Tracked(str(shelf), "one.json", "v1"))
    assert lineage.fetch(one, tmp_path).read_text() == '["first"]'


def test_fetched_data_is_kept_and_checked(shelf, tmp_path, monkeypatch):
    data = lineage.pin(Tracked(str(shelf), "one.json", "v1"))
    lineage.fetch(data, tmp_path)
    monkeypatch.setattr(lineage, "_dvc", lambda _: pytest.fail("fetched again"))
    assert lineage.fetch(data, tmp_path).is_file()
    monkeypatch.undo()
    wrong = Tracked(data.repository, data.path, data.revision, "0" * 32)
    with pytest.raises(VistuneError, match="DVC gave "):
        lineage.fetch(wrong, tmp_path)
    assert not (tmp_path / "dvc" / ("0" * 32)).exists()


@pytest.mark.parametrize(
    ("path", "revision", "said"),
    [
        ("data", "v9", "unknown Git revision 'v9'"),
        ("none", "v1", "is not there"),
        ("data/sub", "v1", "not tracked by DVC as a whole"),
        (".dvcignore", "v1", "not tracked by DVC as a whole"),
    ],
)
def test_what_cannot_be_pinned(shelf, path, revision, said):
    with pytest.raises(VistuneError, match=said):
        lineage.pin(Tracked(str(shelf), path, revision))


def test_a_repository_by_its_address_is_cloned(shelf, tmp_path):
    address = f"file://{shelf}"
    first, newest = (lineage.pin(Tracked(address, "data", revision)) for revision in ("v1", ""))
    assert first.md5 == lineage.pin(Tracked(str(shelf), "data", "v1")).md5
    assert newest.md5 == lineage.dvc_md5(shelf / "data")
    with pytest.raises(VistuneError, match=r"cannot be had .* your access to both git and DVC's remote"):
        lineage.fetch(first, tmp_path)  # no remote is configured there, and a clone has no cache
    assert not (tmp_path / "dvc" / first.md5).exists()


def test_a_repository_that_is_not_there(tmp_path):
    with pytest.raises(VistuneError, match=r"cannot be had .*Check the repository"):
        lineage.pin(Tracked(str(tmp_path / "none"), "data", "v1"))


@pytest.mark.parametrize("text", ["dvc:data@v1", "dvc:", "dvc://", "dvc://a@b c"])
def test_what_is_no_reference(text):
    with pytest.raises(VistuneError, match="names no data under DVC"):
        Tracked.read(text)


def test_a_password_in_an_address_is_refused():
    with pytest.raises(VistuneError, match="holds a password") as refused:
        Tracked.read("dvc:https://me:hunter2@git.example.org/a.git//data")
    assert "hunter2" not in str(refused.value)
