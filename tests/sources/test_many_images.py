"""Sources of many images: a few files for DVC, and every reader finds in them what it found in one file per image."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from PIL import Image

from vistune import imageshards, store
from vistune.errors import VistuneError
from vistune.evaluate.gallery import picture
from vistune.explain import _place
from vistune.files import files_under, tree_digest
from vistune.fingerprints import scan
from vistune.imagestore import open_store
from vistune.records import Reject
from vistune.sources import AnnotationFile, Benchmark, Dataset, Params, load, read, read_benchmark, run
from vistune.stages import Context

IMAGES = 40
UNLIKE = {3: "cut short", 5: "no picture", 7: "absent"}
"""Images that a reader refuses, or that do not exist."""


@pytest.fixture
def own(tmp_path: Path) -> tuple[Dataset, Benchmark]:
    """A data set and a benchmark that share some pictures, one of them under two names; a few cannot be read."""
    folder = tmp_path / "mine"
    (folder / "images/deep").mkdir(parents=True)
    names = [f"deep/{n}.png" if n % 2 else f"{n}.png" for n in range(IMAGES)]
    for n, name in enumerate(names):
        Image.new("RGB", (16, 12), (n, 80, 160)).save(folder / "images" / name)
    shutil.copy(folder / "images/0.png", folder / "images/2.png")
    cut = folder / "images" / names[3]
    Image.linear_gradient("L").save(cut, "JPEG")
    cut.write_bytes(cut.read_bytes()[:-300])  # its header is whole
    (folder / "images" / names[5]).write_text("no picture")
    (folder / "images" / names[7]).unlink()
    listed = [{"id": n, "file_name": name, "width": 16, "height": 12} for n, name in enumerate(names)]
    marks = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 4, 5]} for n in range(IMAGES)]
    tree = {"images": listed, "categories": [{"id": 1, "name": "cat"}], "annotations": marks}
    (folder / "boxes.json").write_text(json.dumps(tree))
    about = [{"question_id": n, "image_id": n, "question": "Red?", "multiple_choices": ["yes", "no"]} for n in (8, 10)]
    right = [{"question_id": n, "image_id": n, "question_type": "is", "multiple_choice_answer": "no"} for n in (8, 10)]
    (folder / "questions.json").write_text(json.dumps({"questions": about}))
    (folder / "answers.json").write_text(json.dumps({"annotations": [{**a, "answers": []} for a in right]}))
    paths = [str(folder / name) for name in ("boxes.json", "images", "questions.json", "answers.json")]
    dataset = Dataset("pets", "train", paths[1], (AnnotationFile("coco_instances", paths[0]),), licence="CC0-1.0")
    asked = Benchmark("asked", "vqa", "external", False, paths[2], paths[3], paths[1], "{image_id}.png", "CC0-1.0")
    return dataset, asked


def gathered(output: Path, own: tuple[Dataset, Benchmark], limit: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "LOOSE", limit)
    output.mkdir()
    params = Params(demo=None, datasets=own[:1], benchmarks=own[1:])
    run(params, {}, output, Context(seed=0, home=output, root=output))
    return output


def everything(root: Path) -> list[object]:
    """All that the readers make of a sources folder: records, rejects, questions, pixels."""
    (dataset,), (benchmark,) = load(root)
    rejects: list[Reject] = []
    found = list(read(root, dataset, rejects))
    pixels = [store.open_image(root, one.image).tobytes() for one in found]
    return [found, rejects, read_benchmark(root, benchmark), pixels]


def test_the_same_is_read_from_shards_and_from_files(own, tmp_path, monkeypatch):
    loose = gathered(tmp_path / "loose", own, 1000, monkeypatch)
    packed = gathered(tmp_path / "packed", own, 10, monkeypatch)
    assert everything(packed) == everything(loose)
    images, rejects, *_ = everything(packed)
    assert len(images) == IMAGES - len(UNLIKE)
    assert {r.reason for r in rejects} == {"image_unreadable", "image_missing"}
    assert not (loose / "images").exists() and len(files_under(loose)) > IMAGES
    left = {
        p.relative_to(packed).as_posix() for p in files_under(packed) if p.suffix not in (".json", ".tar", ".arrow")
    }
    assert left == {"own/pets/images/deep/5.png"}, "what is no image stays as it came"
    prints = [scan(root, {one.image for one in images}, "test") for root in (loose, packed)]
    assert [asdict(p) | {"thumb": 0} for p in prints[0].values()] == [
        asdict(p) | {"thumb": 0} for p in prints[1].values()
    ]
    shown = images[0].image
    assert picture([packed], shown.path) == picture([tmp_path, loose], shown.path) == picture([loose], shown.path)
    assert _place(packed, shown) == f"{shown.path} in the shards of {packed}"


@pytest.mark.parametrize("writers", [1, 2])
def test_two_runs_write_the_same_bytes(own, tmp_path, monkeypatch, writers):
    first = gathered(tmp_path / "first", own, 10, monkeypatch)
    monkeypatch.setattr(imageshards, "WRITERS", writers)
    monkeypatch.setattr("os.cpu_count", lambda: writers)
    monkeypatch.setattr(imageshards.ShardedImages.__init__, "__defaults__", (imageshards.SHARD_BYTES,))
    again = gathered(tmp_path / "again", own, 10, monkeypatch)
    assert tree_digest(first) == tree_digest(again)


def test_a_damaged_shard_is_named_and_no_row_is_blamed(own, tmp_path, monkeypatch):
    root = gathered(tmp_path / "packed", own, 10, monkeypatch)
    (dataset,), _ = load(root)
    images = [one.image for one in read(root, dataset, [])]
    (shard,) = (root / "images").glob("*.tar")
    shard.write_bytes(shard.read_bytes().replace(b"IDAT", b"IDAX"))
    with pytest.raises(VistuneError, match=rf"{shard.name} changed: expected sha256"):
        list(read(root, dataset, []))
    prints = scan(root, set(images), "test").values()
    assert {p.damage for p in prints} == {"changed"} and all(shard.name in p.detail for p in prints)
    with pytest.raises(VistuneError, match="images are missing or not what their digests say"):
        open_store(root).verify()
    shard.unlink()
    with pytest.raises(VistuneError, match=rf"{shard.name} cannot be read .* Restore it"):
        list(read(root, dataset, []))


def test_names_that_leave_the_folder_find_nothing_in_the_shards(own, tmp_path, monkeypatch):
    names = ("../annotations/0/boxes.json", "../../../own/pets", "/etc/passwd", "a\0b", "x" * 5000, "..", "")
    said = []
    for limit in (1000, 10):
        root = gathered(tmp_path / str(limit), own, limit, monkeypatch)
        (dataset,), _ = load(root)
        path = root / dataset.files[0].path
        tree = json.loads(path.read_text())
        for row, name in zip(tree["images"][10:], names, strict=False):
            row["file_name"] = name
        path.unlink()  # it is a link to the user's own
        path.write_text(json.dumps(tree))
        rejects: list[Reject] = []
        assert len(list(read(root, dataset, rejects))) == IMAGES - len(UNLIKE) - len(names)
        said.append(rejects)
    assert said[0] == said[1]
    assert {r.reason for r in said[0] if r.key in ("pets/image/10", "pets/image/11", "pets/image/12")} == {"image_path"}


@pytest.mark.slow
def test_five_thousand_images_are_a_few_files(tmp_path, monkeypatch):
    """At the limit that is in force; the user's own files stay as they are."""
    folder = tmp_path / "mine/images"
    folder.mkdir(parents=True)
    Image.new("L", (4, 4), 7).save(folder / "0.png")
    head = (folder / "0.png").read_bytes()
    rows = []
    for n in range(5_000):
        (folder / f"{n}.png").write_bytes(head + n.to_bytes(4))  # another digest, the same picture
        rows.append({"id": n, "file_name": f"{n}.png", "width": 4, "height": 4})
    tree = {"images": rows, "categories": [], "annotations": []}
    (tmp_path / "mine/boxes.json").write_text(json.dumps(tree))
    files = (AnnotationFile("coco_instances", str(tmp_path / "mine/boxes.json")),)
    dataset = Dataset("many", "train", str(folder), files)
    output = tmp_path / "out"
    output.mkdir()
    run(Params(demo=None, datasets=(dataset,)), {}, output, Context(seed=0, home=output, root=output))
    assert [p.name for p in files_under(output) if p.suffix not in (".json", ".tar")] == ["index.arrow", "names.arrow"]
    assert len(files_under(output)) <= 6
    assert len(open_store(output)) == len(list(folder.iterdir())) == 5_000
    image = store.named_image(output, "own/many/images/4321.png")
    assert image is not None and store.open_image(output, image).size == (4, 4)
    assert store.named_image(output, "own/many/images/5000.png") is None


@pytest.mark.parametrize("limit", [10, 1000])
def test_a_release_takes_its_images_out_of_the_shards_of_sources(own, tmp_path, monkeypatch, limit):
    """Into files of their own, or into shards; a damaged one is refused in both."""
    root = gathered(tmp_path / "packed", own, 10, monkeypatch)
    images = {image.sha256: image for image in open_store(root)}.values()
    monkeypatch.setattr(store, "LOOSE", limit)
    store.add_images(tmp_path / "release", [(i, store.image_file(root, i)) for i in images], len(images))
    held = open_store(tmp_path / "release")
    assert [i.sha256 for i in held] == sorted(i.sha256 for i in images)
    assert all(held.read(i.sha256) == open_store(root).read(i.sha256) for i in images)
    assert len(files_under(tmp_path / "release")) == (2 if limit == 10 else len(images))
    (shard,) = (root / "images").glob("*.tar")
    shard.write_bytes(shard.read_bytes().replace(b"IDAT", b"IDAX"))
    with pytest.raises(VistuneError, match=f"{shard.name} changed"):
        store.add_images(tmp_path / "again", [(i, store.image_file(root, i)) for i in images], len(images))


def test_the_picture_of_another_name_is_kept_once(own, tmp_path, monkeypatch):
    root = gathered(tmp_path / "packed", own, 10, monkeypatch)
    one, other = (store.named_image(root, f"own/pets/images/{n}.png") for n in (0, 2))
    assert one is not None and other is not None and replace(one, path=other.path) == other
    assert sum(image.sha256 == one.sha256 for image in open_store(root)) == 1
