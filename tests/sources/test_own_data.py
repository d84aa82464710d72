import base64
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vistune.errors import VistuneError
from vistune.files import files_under, tree_digest
from vistune.records import Reject
from vistune.sources import (
    AnnotationFile,
    Benchmark,
    Dataset,
    Params,
    fingerprint,
    load,
    own_data,
    read,
    read_benchmark,
    run,
)
from vistune.stages import Context


def _context(folder: Path) -> Context:
    return Context(seed=0, home=folder, root=folder)


@pytest.fixture
def own(another: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A user's data in `mine/`, with the working directory beside it."""
    source = another("mine")
    source.write()
    Image.new("RGB", (9, 9)).save(source.root / "images/unused.png")
    monkeypatch.chdir(tmp_path)
    return source


def _mine() -> Dataset:
    files = (
        AnnotationFile("coco_instances", "mine/instances.json"),
        AnnotationFile("coco_captions", "mine/captions.json"),
        AnnotationFile("vqa", "mine/questions.json", "mine/answers.json"),
    )
    return Dataset("pets", "train", "mine/images", files)


def _run(output: Path, *datasets: Dataset, benchmarks: tuple[Benchmark, ...] = ()) -> dict[str, Any]:
    output.mkdir(exist_ok=True)
    return run(Params(demo=None, datasets=datasets, benchmarks=benchmarks), {}, output, _context(output))


def test_own_files_are_gathered_and_read_from_the_gathered_folder(own: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    summary = _run(output, _mine())
    names = [p.relative_to(output).as_posix() for p in files_under(output)]
    assert "own/pets/images/001.png" in names and "own/pets/images/unused.png" not in names
    assert os.stat(output / "own/pets/images/001.png").st_ino == os.stat(own.root / "images/001.png").st_ino
    (dataset,), _ = load(output)
    assert not any(Path(p).is_absolute() for f in dataset.files for p in (f.path, f.annotations))
    rejects: list[Reject] = []
    images = list(read(output, dataset, rejects))
    assert len(images) == 3 and not rejects and images[0].licence == "CC BY 4.0"
    assert images[0].captions and images[0].objects and images[0].questions
    counts = {"images": 3, "objects": 3, "captions": 2, "questions": 2, "benchmark questions": 0}
    assert summary["counts"] == counts
    assert summary["details"]["rows"]["pets"]["unusable"] == 0


def test_absolute_and_relative_paths_give_the_same_folder(own: Any, tmp_path: Path) -> None:
    def absolute(path: str) -> str:
        return str(tmp_path / path) if path else ""

    mine = _mine()
    files = tuple(AnnotationFile(f.format, absolute(f.path), absolute(f.annotations)) for f in mine.files)
    _run(tmp_path / "one", mine)
    _run(tmp_path / "two", replace(mine, files=files, images=absolute(mine.images)))
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two")


def test_files_of_one_name_do_not_overwrite_each_other(own: Any, another: Callable[[str], Any], tmp_path: Path) -> None:
    other = another("other")
    other.captions["annotations"] = other.captions["annotations"][:1]
    other.write()
    (other.root / "captions.json").rename(other.root / "instances.json")
    files = (
        AnnotationFile("coco_instances", "mine/instances.json"),
        AnnotationFile("coco_captions", "other/instances.json"),
    )
    _run(tmp_path / "out", replace(_mine(), files=files))
    (dataset,), _ = load(tmp_path / "out")
    assert sum(len(i.captions) for i in read(tmp_path / "out", dataset, [])) == 1


def test_a_name_like_that_of_another_file_does_no_harm(own: Any, tmp_path: Path) -> None:
    _run(tmp_path / "out", replace(_mine(), name="sources.json"), replace(_mine(), name="benchmarks"))
    assert [d.name for d in load(tmp_path / "out")[0]] == ["sources.json", "benchmarks"]


def test_a_missing_image_is_left_out_and_rejected_when_read(own: Any, tmp_path: Path) -> None:
    (own.root / "images/002.png").unlink()
    _run(tmp_path / "out", _mine())
    (dataset,), _ = load(tmp_path / "out")
    rejects: list[Reject] = []
    assert len(list(read(tmp_path / "out", dataset, rejects))) == 2
    assert {r.reason for r in rejects} == {"image_missing"}


@pytest.mark.parametrize("name", ["../../secret.png", "ABSOLUTE"])
def test_a_name_that_leaves_the_folder_is_not_collected(own: Any, tmp_path: Path, name: str) -> None:
    """An annotation file from elsewhere must not pull in, or overwrite, other files of the user."""
    secret = tmp_path / "secret.png"
    Image.new("RGB", (40, 30)).save(secret)
    before = secret.read_bytes()
    own.instances["images"][0]["file_name"] = str(secret) if name == "ABSOLUTE" else name
    own.write()
    _run(tmp_path / "out", replace(_mine(), files=_mine().files[:1]))
    assert secret.read_bytes() == before
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
    (dataset,), _ = load(tmp_path / "out")
    rejects: list[Reject] = []
    list(read(tmp_path / "out", dataset, rejects))
    assert {r.reason for r in rejects} == {"image_path"}


def test_links_that_the_user_placed_are_followed(own: Any, tmp_path: Path) -> None:
    """Data under version control is often a folder of links into a cache."""
    path = own.root / "images/001.png"
    path.rename(tmp_path / "cache.png")
    os.symlink(tmp_path / "cache.png", path)
    _run(tmp_path / "out", _mine())
    assert not (tmp_path / "out/own/pets/images/001.png").is_symlink()
    (dataset,), _ = load(tmp_path / "out")
    assert len(list(read(tmp_path / "out", dataset, []))) == 3


def test_an_own_benchmark_is_gathered_and_checked(own: Any, tmp_path: Path) -> None:
    for question in own.questions["questions"]:
        question["multiple_choices"] = ["cat", "no"]
    own.write()
    quiz = Benchmark(
        "quiz",
        "vqa",
        "external",
        False,
        "mine/questions.json",
        "mine/answers.json",
        "mine/images",
        "{image_id:03d}.png",
    )
    summary = _run(tmp_path / "out", _mine(), benchmarks=(quiz,))
    assert summary["details"]["benchmarks"] == {"quiz": 2}
    _, (placed,) = load(tmp_path / "out")
    assert len(read_benchmark(tmp_path / "out", placed)) == 2
    (own.root / "images/001.png").unlink()
    with pytest.raises(VistuneError, match="benchmark quiz has 1 bad rows"):
        _run(tmp_path / "out", _mine(), benchmarks=(quiz,))


def test_leftovers_of_a_killed_attempt_are_cleared(own: Any, tmp_path: Path) -> None:
    _run(tmp_path / "one", _mine())
    (tmp_path / "two/own/pets/images").mkdir(parents=True)
    (tmp_path / "two/own/pets/images/999.png").write_bytes(b"half")
    (tmp_path / "two/.sources.json.x.tmp").write_text("{")
    _run(tmp_path / "two", _mine())
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two")


def test_the_fingerprint_follows_contents_not_unused_files(own: Any, tmp_path: Path) -> None:
    def now() -> str:
        return fingerprint(Params(demo=None, datasets=(_mine(),)))

    first = now()
    (own.root / "images/unused.png").unlink()
    assert now() == first
    own.captions["annotations"][0]["caption"] = "A cat."
    own.write()
    second = now()
    assert second != first
    Image.new("RGB", (40, 30), "red").save(own.root / "images/001.png", compress_level=0)
    assert now() != second


def test_a_folder_of_annotations_is_linked_as_a_tree(own: Any, tmp_path: Path) -> None:
    folder = tmp_path / "talks"
    for name in ("b/2.json", "b/.hidden.json", ".git/x.json", "1.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        row = {"id": name, "image": "001.png", "conversations": [{"from": "human", "value": "<image>What?"}]}
        row["conversations"].append({"from": "gpt", "value": "A cat."})  # type: ignore[attr-defined]
        (folder / name).write_text(json.dumps([row]))
    (tmp_path / "elsewhere").mkdir()
    (folder / "1.json").rename(tmp_path / "elsewhere/1.json")
    os.symlink(tmp_path / "elsewhere/1.json", folder / "1.json")  # as version control of data does
    os.symlink(folder, folder / "b/again")  # a circle
    talks = Dataset("talks", "train", "mine/images", (AnnotationFile("llava", "talks"),), licence="CC0")
    output = tmp_path / "out"
    summary = _run(output, talks)
    place = output / "own/talks/annotations/0/talks"
    assert [p.relative_to(place).as_posix() for p in files_under(place)] == ["1.json", "b/2.json"]
    assert not (place / "1.json").is_symlink()
    (dataset,), _ = load(output)
    assert [d.id for d in read(output, dataset, [])] == ["talks/1.json", "talks/b/2.json"]
    assert summary["counts"] == {
        "images": 0,
        "objects": 0,
        "captions": 0,
        "questions": 0,
        "dialogues": 2,
        "benchmark questions": 0,
    }


def test_the_fingerprint_of_a_folder_follows_names_and_contents(
    own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talks = Dataset("talks", "train", "mine/images", (AnnotationFile("llava", "talks"),))
    (tmp_path / "talks").mkdir()

    def now() -> str:
        return fingerprint(Params(demo=None, datasets=(talks,)))

    for name, content in (("a.json", "[]"), ("b.json", "[ ]"), (".hidden.json", "[]"), ("notes.txt", "x")):
        (tmp_path / "talks" / name).write_text(content)
    first = now()
    (tmp_path / "talks/.hidden.json").unlink()
    os.utime(tmp_path / "talks/a.json", ns=(1, 1))
    assert now() == first  # a small file is known by what is in it
    (tmp_path / "talks/notes.txt").write_text("y")
    second = now()
    (tmp_path / "talks/b.json").rename(tmp_path / "talks/c.json")
    assert len({first, second, now()}) == 3
    monkeypatch.setattr(own_data, "SMALL", 0)
    third = now()
    os.utime(tmp_path / "talks/a.json", ns=(2, 2))
    assert now() != third  # a large one by its size and time


def test_images_inside_annotation_files_are_written_once_and_touch_nothing_else(own: Any, tmp_path: Path) -> None:
    """A name in the user's own folder that is that of an embedded image is left alone, and never written through."""
    data = (own.root / "images/001.png").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    row = {"instruction": "What?", "outputs": "A cat.", "image_base64_str": base64.b64encode(data).decode()}
    (tmp_path / "m3it.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    theirs = own.root / f"images/embedded/{digest[:2]}/{digest}"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"their own")
    m3it = Dataset("m3it", "train", "mine/images", (AnnotationFile("m3it", "m3it.jsonl"),), licence="CC0")
    output = tmp_path / "out"
    _run(output, m3it, _mine())
    written = output / f"own/m3it/images/embedded/{digest[:2]}/{digest}"
    assert written.read_bytes() == data and theirs.read_bytes() == b"their own"
    assert len([p for p in files_under(output / "own/m3it/images") if p.is_file()]) == 1
    m3it_placed, pets = load(output)[0]
    assert len(list(read(output, m3it_placed, []))) == 2 and len(list(read(output, pets, []))) == 3


def test_nothing_to_train_on_is_an_error(own: Any, tmp_path: Path) -> None:
    with pytest.raises(VistuneError, match="no data set with split 'train'"):
        _run(tmp_path / "out")
    with pytest.raises(VistuneError, match="no data set with split 'train'"):
        _run(tmp_path / "out", replace(_mine(), split="test"))


def test_missing_files_and_empty_lists_are_errors(own: Any, tmp_path: Path) -> None:
    with pytest.raises(VistuneError, match=r"mine/nothing\.json does not exist"):
        _run(tmp_path / "out", replace(_mine(), files=(AnnotationFile("coco_instances", "mine/nothing.json"),)))
    with pytest.raises(VistuneError, match="mine/pictures does not exist"):
        _run(tmp_path / "out", replace(_mine(), images="mine/pictures"))
    own.instances["images"] = []
    own.write()
    with pytest.raises(VistuneError, match="pets names no image"):
        _run(tmp_path / "out", replace(_mine(), files=_mine().files[:1]))
