"""`resolve`: what moves is pinned before any other step, and later steps, cache and lineage have it."""

import json
import subprocess

import pytest

from vistune import component, lineage, resolved, variants
from vistune.errors import VistuneError
from vistune.params import read_tree
from vistune.stages import Settings, execute, outside, receipt

SHA = "5" * 40


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    """A hub with every model; the address of the real one is in tests/test_pins.py."""
    asked = []

    def pin(reference):
        asked.append(reference)
        movable = "/" in reference and not reference.startswith("/") and "@" not in reference
        return f"{reference}@{SHA}" if movable else reference

    monkeypatch.setattr(resolved, "hub", pin)
    return asked


@pytest.fixture
def shelf(tmp_path):
    """A repository in which DVC tracks an annotated picture."""
    from dvc.repo import Repo
    from PIL import Image

    root = tmp_path / "shelf"
    (root / "data").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(root / "data/a.png")
    image = {"id": 1, "file_name": "a.png", "width": 8, "height": 8}
    coco = {"images": [image], "annotations": [], "categories": []}
    (root / "coco.json").write_text(json.dumps({**coco, "annotations": [{"id": 1, "image_id": 1, "caption": "red"}]}))
    for command in (["init", "-q", "-b", "main"],):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    Repo.init(str(root)).close()
    with Repo(str(root)) as repo:
        repo.add([str(root / "data"), str(root / "coco.json")])
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(root), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(root), *who, "commit", "-qm", "first"], check=True)
    return root


def own_data(root) -> dict:
    file = {"format": "coco_captions", "path": f"dvc:{root}//coco.json@main"}
    own = {"name": "shelf", "split": "train", "images": f"dvc:{root}//data@main", "files": [file], "licence": "CC0-1.0"}
    return {"demo": None, "datasets": [own]}


def test_data_under_dvc_reaches_the_stage_and_its_lineage(shelf, own_home, tmp_path, capsys):
    whole = component.resolve(json.dumps({"sources": own_data(shelf), "seed": 3}), "", -1, "")
    tree = read_tree(whole[0], "sources")
    dataset = tree["sources"]["datasets"][0]
    commit = subprocess.check_output(["git", "-C", str(shelf), "rev-parse", "HEAD"], text=True).strip()
    md5 = lineage.dvc_md5(shelf / "data")
    assert dataset["images"] == f"dvc:{shelf}//data@{commit}#{md5}"
    assert (
        f"sources.datasets.0.images: dvc:{shelf}//data@main is dvc:{shelf}//data@{commit}#{md5}"
        in capsys.readouterr().out
    )
    tree.pop("ids", None)
    settings = Settings.parse(tree)
    assert outside("sources", settings.sections["sources"]) == outside("sources", settings.sections["sources"])
    done = execute("sources", settings, {}, tmp_path / "out")
    assert done.summary["counts"]["images"] == 1
    assert done.pins["datasets.0.images"] == dataset["images"] and len(done.pins) == 2
    assert receipt(tmp_path / "out").pins == done.pins
    assert component.metadata(done)["pin.datasets.0.images"] == dataset["images"]


def test_a_moved_branch_is_another_result_and_the_command_line_sees_it_too(shelf, own_home, tmp_path):
    settings = Settings.parse({"sources": own_data(shelf)})
    first = execute("sources", settings, {}, tmp_path / "one")
    assert execute("sources", settings, {}, tmp_path / "two").cached
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(shelf), *who, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    second = execute("sources", settings, {}, tmp_path / "three")
    assert second.key != first.key and second.digest == first.digest, "another commit of the same data"


def test_files_partly_under_dvc_are_refused(shelf, own_home, tmp_path):
    tree = own_data(shelf)
    tree["datasets"][0]["images"] = str(shelf / "data")
    with pytest.raises(VistuneError, match=r"some of its files are under DVC and .* is not"):
        execute("sources", Settings.parse({"sources": tree}), {}, tmp_path / "out")


def test_models_get_their_commit(hub):
    found, filled = resolved.pinned({"tune": {"language": "org/lm@v2", "vision": "a/low,b/high"}})
    assert found["tune"]["vision"] == f"a/low@{SHA},b/high@{SHA}"
    assert hub == ["org/lm@v2", "a/low", "b/high"] and filled == []
    assert resolved.pinned({"tune": {}}) == ({"tune": {}}, []), "the default family's weights are packages"
    elsewhere = {"tune": {"family": "llava"}, "sources": {"x": "dvc:/nowhere//data"}}
    assert resolved.pinned(elsewhere, ["promote"]) == (elsewhere, []), "of stages that do not run nothing is asked"


def test_the_familys_own_weights_are_pinned_too(capsys):
    found, filled = resolved.pinned({"tune": {"family": "llava", "vision": "/models/clip"}})
    assert found["tune"]["language"] == f"lmsys/vicuna-7b-v1.3@{SHA}" and filled == ["language"]
    assert found["tune"]["vision"] == "/models/clip"
    assert f"tune.language: of the family is lmsys/vicuna-7b-v1.3@{SHA}" in capsys.readouterr().out


def test_a_variant_of_another_family_does_not_keep_the_first_ones_weights():
    settings = component.resolve(json.dumps({"tune": {"family": "llava"}}), "", -1, "")
    tune = read_tree(settings[4], "tune")
    assert tune["ids"]["filled"] == ["language", "vision"]
    kept, other, named = variants.vary(
        tune, ["seed=1", "tune.family=vip_llava", "tune.family=vip_llava;tune.language=org/mine"]
    )
    assert kept["tune"] == tune["tune"]
    assert other["tune"]["language"] == f"lmsys/vicuna-7b-v1.5@{SHA}"
    assert named["tune"]["language"] == f"org/mine@{SHA}"


def test_a_folder_that_changed_is_another_key(own_home, tmp_path, monkeypatch):
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm/config.json").write_text("{}")
    monkeypatch.setenv(lineage.KFP_RUN, "run-1")
    monkeypatch.setenv("VISTUNE_TRACKING", "off")
    given = json.dumps({"tune": {"language": str(tmp_path / "lm")}})
    first = read_tree(component.resolve(given, "", -1, "")[4], "tune")["ids"]["language"]
    (tmp_path / "lm/config.json").write_text("[]")
    second = read_tree(component.resolve(given, "", -1, "")[4], "tune")["ids"]["language"]
    assert first.startswith("sha256:") and first != second


@pytest.mark.parametrize(
    ("image", "said"), [("r/v:1", "image: r/v:1, by a tag that may move"), ("r/v@sha256:" + "0" * 64, "0000\n")]
)
def test_the_image_is_said(monkeypatch, capsys, image, said):
    monkeypatch.setenv("VISTUNE_IMAGE", image)
    resolved.pinned({})
    assert said in capsys.readouterr().out
