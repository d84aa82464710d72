import os
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vistune.errors import VistuneError
from vistune.hashing import file_digest
from vistune.sources import Benchmark, read_benchmark
from vistune.store import open_image


def test_all_files_of_a_data_set_meet_on_the_image(source: Any) -> None:
    first, second, third = source.read()
    assert (len(first.objects), len(first.captions), len(first.questions)) == (2, 1, 1)
    assert (len(second.objects), len(second.captions), len(second.questions)) == (0, 1, 1)
    assert [f.path for f in third.files] == ["instances.json", "captions.json", "questions.json", "answers.json"]
    assert dict(source.tally.kept) == {"image": 3, "object": 3, "caption": 2, "question": 2}
    assert first.image.sha256 == file_digest(source.root / "images/001.png")
    assert open_image(source.root, first.image).size == (first.image.width, first.image.height) == (40, 30)


def test_an_image_that_files_name_differently_is_an_error(source: Any) -> None:
    source.captions["images"] = [{**i, "file_name": "x.png"} for i in source.captions["images"]]
    with pytest.raises(VistuneError, match=r"001\.png in one file and x\.png in .*captions\.json"):
        source.read("coco_instances", "coco_captions")


def test_a_missing_image_takes_its_annotations_with_it_and_every_row_is_counted(source: Any) -> None:
    (source.root / "images/001.png").unlink()
    assert [i.id for i in source.read()] == ["pets/2", "pets/10"]
    assert source.reasons() == dict.fromkeys(
        ["pets/image/1", "pets/object/5", "pets/object/6", "pets/caption/5", "pets/question/100"], "image_missing"
    )


def test_a_refused_box_no_longer_proves_absence(source: Any) -> None:
    """A cat whose box is broken is still in the picture: nobody may conclude from its absence in the rows."""
    source.instances["annotations"][0]["bbox"] = [900, 3, 10, 12]
    first, second, _ = source.read("coco_instances")
    assert [c.label for c in first.vocabulary] == []
    assert [c.label for c in second.vocabulary] == ["cat"]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_an_image_cut_short_is_unreadable(source: Any, kind: str) -> None:
    """The header of such a file is whole: only decoding shows that the pixels are not there."""
    path = source.root / "images/001.png"
    noise = Image.frombytes("RGB", (40, 30), random.Random(0).randbytes(3600))
    noise.save(path, format=kind)
    assert len(source.read("coco_instances")) == 3
    path.write_bytes(path.read_bytes()[:-200])
    source.read("coco_instances")
    assert source.reasons()["pets/image/1"] == "image_unreadable"


def test_damaged_images_never_raise(source: Any) -> None:
    path = source.root / "images/001.png"
    whole = path.read_bytes()
    random_ = random.Random(1)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(random_.randint(1, 6)):
            damaged[random_.randrange(len(damaged))] = random_.randrange(256)
        path.write_bytes(bytes(damaged))
        source.read("coco_captions")
        assert set(source.reasons().values()) <= {"image_unreadable", "image_size"}


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_unreadable(source: Any, content: bytes) -> None:
    (source.root / "images/001.png").write_bytes(content)
    source.read("coco_captions")
    assert source.reasons()["pets/image/1"] == "image_unreadable"


def test_a_declared_size_that_is_not_the_real_one_rejects_the_image(source: Any) -> None:
    source.instances["images"][0]["width"] = 41
    assert len(source.read("coco_instances")) == 2
    assert source.reasons()["pets/image/1"] == "image_size"
    assert "41x30 but is 40x30" in source.rejects[0].detail


def test_size_is_that_of_the_upright_image(source: Any) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (30, 40)).save(source.root / "images/001.png", exif=turned)
    assert source.read("coco_instances")[0].image.width == 40
    assert not source.rejects


def test_without_a_declared_size_the_real_one_is_used(source: Any) -> None:
    for image in source.instances["images"]:
        del image["width"], image["height"]
    assert source.read("coco_instances")[0].image.height == 30


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "a/../../secret.png", "\0", "x" * 5000])
def test_a_path_out_of_the_image_folder_is_refused(source: Any, name: str) -> None:
    Image.new("RGB", (40, 30)).save(source.root / "secret.png")
    source.instances["images"][0]["file_name"] = name
    source.read("coco_instances")
    assert source.reasons()["pets/image/1"] in ("image_path", "image_missing")
    assert source.reasons()["pets/image/1"] == "image_path" or len(name) == 5000


def test_a_link_out_of_the_sources_folder_is_refused(source: Any, tmp_path_factory: Any) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    Image.new("RGB", (40, 30)).save(outside)
    path = source.root / "images/001.png"
    path.unlink()
    os.symlink(outside, path)
    source.read("coco_instances")
    assert source.reasons()["pets/image/1"] == "image_path"


def test_broken_json_is_an_error_that_names_file_and_line(source: Any) -> None:
    source.read("coco_instances")
    (source.root / "instances.json").write_text('{"images": [\n{"id": 1,', encoding="utf-8")
    from vistune.sources import read

    with pytest.raises(VistuneError, match=r"instances\.json is not valid JSON.*line 2"):
        list(read(source.root, source.dataset("coco_instances"), []))


def _benchmark(source: Any) -> Benchmark:
    for question in source.questions["questions"]:
        question["multiple_choices"] = ["no", "cat"]
    source.write()
    return Benchmark("quiz", "vqa", "external", False, "questions.json", "answers.json", "images", "{image_id:03d}.png")


def test_a_benchmark_is_read_with_choices_and_images(source: Any) -> None:
    first, second = read_benchmark(source.root, _benchmark(source))
    assert (first.id, first.question, first.choices, first.answer) == ("quiz/100", "What is it?", ("no", "cat"), "cat")
    assert (first.task, first.concepts, second.image.path) == ("vqa", "external", "images/002.png")
    assert first.image.sha256 != second.image.sha256


def _without_choices(source: Any) -> None:
    del source.questions["questions"][0]["multiple_choices"]


def _wrong_answer(source: Any) -> None:
    source.answers["annotations"][1]["multiple_choice_answer"] = "dog"


def _no_image(source: Any) -> None:
    (source.root / "images/002.png").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [(_without_choices, "choices_missing"), (_wrong_answer, "answer_not_among_choices"), (_no_image, "image_missing")],
)
def test_a_benchmark_with_a_bad_row_is_an_error_since_its_score_would_change(
    source: Any, damage: Any, said: str
) -> None:
    benchmark = _benchmark(source)
    damage(source)
    source.write()
    with pytest.raises(VistuneError, match=f"benchmark quiz has 1 bad rows.*{said}"):
        read_benchmark(source.root, benchmark)


def test_reading_twice_gives_the_same(source: Any) -> None:
    assert source.read() == source.read()


def test_a_folder_that_is_no_sources_folder_says_so(tmp_path: Path) -> None:
    from vistune.sources import load

    with pytest.raises(VistuneError, match="no sources folder"):
        load(tmp_path)
