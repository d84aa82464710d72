"""`fetch`: models from the registry, the hub and folders, laid out as `evaluate` reads them."""

import importlib.util
import json
from pathlib import Path

import pytest
from kfp import dsl

from vistune import store, tracking
from vistune.errors import VistuneError
from vistune.fetched import pinned, place
from vistune.promote.evidence import check_chain
from vistune.stages import receipt, verified

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    return folder


@pytest.fixture
def fetch(tmp_path):
    """Calls the component; returns the settings of `evaluate` and both folders."""
    path = ROOT / "components/fetch/component.py"
    spec = importlib.util.spec_from_file_location("component_fetch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(model, base="", trained_on="", settings=None):
        fetched, release = (dsl.Artifact(n, str(tmp_path / "out" / n)) for n in ("fetched", "release"))
        given = json.dumps(settings or {"seed": 1, "evaluate": {"suite": "demo"}})
        made = module.fetch.python_func(given, str(model), str(base), str(trained_on), fetched, release)
        return json.loads(made), Path(fetched.path), Path(release.path)

    return call


def test_a_folder_alone(fetch, model):
    settings, fetched, release = fetch(model)
    assert settings == {"seed": 1, "evaluate": {"suite": "demo", "conditions": {"base": []}}}
    assert (fetched / "model" / "model.safetensors").read_text() == "weights"
    assert verified(fetched).stage == "tune" and verified(release).stage == "validate"
    assert list(store.read_samples(release)) == []


def test_a_folder_and_a_base_of_the_output_of_tune(fetch, model, tmp_path):
    (tmp_path / "tuned").mkdir()
    model.rename(tmp_path / "tuned" / "model")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"x": 1}')
    settings, fetched, _ = fetch(tmp_path / "tuned", other)
    assert "conditions" not in settings["evaluate"]
    assert (fetched / "base" / "config.json").read_text() == '{"x": 1}'


def test_what_was_fetched_cannot_be_promoted(fetch, model):
    """Nothing says what it was trained on: the chain of digests ends at it."""
    _, fetched, release = fetch(model)
    receipts = {"sources": receipt(release), "validate": receipt(release), "tune": receipt(fetched)}
    with pytest.raises(VistuneError, match="the receipt of stage tune does not say which output of validate it read"):
        check_chain({**receipts, "evaluate": receipt(fetched)})


def test_a_version_of_the_registry(fetch, model, tmp_path, monkeypatch):
    logged = tmp_path / "logged" / "artifacts"
    logged.mkdir(parents=True)
    model.rename(logged / "model")
    monkeypatch.setattr(tracking, "model_folder", lambda uri: {"models:/demo/7": logged.parent}[uri])
    version = tracking.Version("demo", "7", "", "", {}, ("champion",), 0)
    monkeypatch.setattr(tracking, "get_alias", lambda *asked: {("demo", "champion"): version}.get(asked))
    _, fetched, _ = fetch("models:/demo@champion")
    assert (fetched / "model" / "config.json").is_file()
    assert receipt(fetched).summary["details"] == {"fetched": {"model": "models:/demo/7"}}, "an alias may move"
    with pytest.raises(VistuneError, match="the registry has no models:/demo@latest"):
        pinned("models:/demo@latest")
    monkeypatch.setattr(tracking, "model_folder", lambda uri: tmp_path / "nothing")
    with pytest.raises(VistuneError, match="was not registered by `vistune promote`"):
        place("models:/other/3")


def test_a_published_model_at_its_commit(fetch, model, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr("vistune.fetched.hub", lambda reference: reference.replace("@main", f"@{COMMIT}"))

    asked = []

    def snapshot(name, revision, allow_patterns):
        asked.append((name, revision))
        assert not {"*.py", "*.bin", "*.pt"} & set(allow_patterns), "neither code nor pickles"
        return str(model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    _, fetched, _ = fetch("org/name@main")
    assert asked == [("org/name", COMMIT)]
    assert receipt(fetched).summary["details"] == {"fetched": {"model": f"org/name@{COMMIT}"}}
    (model / "model.safetensors").unlink()
    with pytest.raises(VistuneError, match="has no safetensors weights"):
        place(f"org/name@{COMMIT}")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("org/name", "the hub does not say which commit of org/name main is"),
        ("org/name@v2", "the hub does not say which commit of org/name v2 is"),
        ("name", "is no folder here and no model's name"),
        ("/nowhere", "is no folder here and no model's name"),
        (f"org/name@{COMMIT}", "the hub does not give org/name at 0123456789ab"),
    ],
)
def test_references_that_lead_nowhere(reference, said):
    """The last one: there is no network in the tests."""
    with pytest.raises(VistuneError) as stopped:
        place(pinned(reference))
    assert said in str(stopped.value)


def test_a_folder_without_a_model_and_a_release_that_is_none(fetch, model, tmp_path, capsys):
    with pytest.raises(VistuneError, match=r"neither config\.json nor model/config\.json"):
        place(str(tmp_path))
    with pytest.raises(SystemExit):
        fetch(model, trained_on=tmp_path)
    assert "holds no finished stage output" in capsys.readouterr().out
