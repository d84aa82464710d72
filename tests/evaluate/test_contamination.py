"""Planted contamination is found, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from vistune.errors import VistuneError
from vistune.evaluate.contamination import Asked, counted, find
from vistune.records import ImageRef, Lineage, Sample, conversation
from vistune.store import describe_image


def scene(number: int, size: int = 160) -> Image.Image:
    """A picture of coloured shapes on a gradient, different for each number and from its mirror image."""
    generator = np.random.default_rng(number)
    ramp = np.linspace(40, 200, size)[None, :, None] * generator.random(3) + np.zeros((size, size, 3))
    image = Image.fromarray(ramp.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(7):
        x, y = generator.integers(0, size - 50, 2).tolist()
        w, h = generator.integers(20, 70, 2).tolist()
        draw.ellipse((x, y, x + w, y + h), fill=tuple(generator.integers(0, 255, 3).tolist()))
    return image


def sample(number: int, image: ImageRef, question: str) -> Sample:
    return Sample(
        id=f"vt1:{number}",
        images=(image,),
        instruction=question,
        input="",
        response="yes",
        messages=conversation([(question, "yes")]),
        dataset="d",
        split="train",
        task="vqa",
        method="adapt",
        licence="CC0",
        group=f"g{number}",
        lineage=Lineage("d/1", (), ()),
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    release, data = tmp_path_factory.mktemp("release"), tmp_path_factory.mktemp("data")
    for n in range(12):
        scene(n).save(release / f"{n}.png")
    scene(0).save(data / "same_file.png")
    scene(1).save(data / "other_bytes.png", compress_level=1, dpi=(72, 72))
    scene(2).save(data / "encoded.jpg", quality=60)
    scene(3).resize((97, 97)).save(data / "resized.webp", quality=80)
    ImageOps.mirror(scene(4)).save(data / "mirrored.jpg", quality=85)
    for n in range(6):
        scene(100 + n).save(data / f"new{n}.png")
    return release, data


def asked(data: Path, name: str, question: str = "Is there a dog?") -> Asked:
    images = (describe_image(data, name),) if name else ()
    return Asked(f"b/{name or question}", "b", question, images)


def test_planted_contamination_is_found(folders: tuple[Path, Path]) -> None:
    release, data = folders
    samples = [sample(n, describe_image(release, f"{n}.png"), "Is there a dog?") for n in range(12)]
    names = [path.name for path in sorted(data.iterdir())]
    items = [asked(data, name) for name in names] + [asked(data, "", "is there  a DOG"), asked(data, "", "A new one?")]
    found = find(items, samples, release, [data])
    assert {id.removeprefix("b/"): match.how for id, match in found.items()} == {
        "same_file.png": "pixels",
        "other_bytes.png": "pixels",
        "encoded.jpg": "near",
        "resized.webp": "near",
        "mirrored.jpg": "mirrored",
        "is there  a DOG": "question",
    }
    assert [found[f"b/{name}"].sample for name in ("encoded.jpg", "mirrored.jpg")] == ["vt1:2", "vt1:4"]
    assert all(match.question for match in found.values())
    table = counted(items, found)["b"]
    assert (table["items"], table["contaminated"]) == (len(items), 6)
    assert table["how"] == {"mirrored": 1, "near": 2, "pixels": 2, "question": 1, "question about the picture": 5}
    assert table["example"]["how"] == "near"


def test_the_same_question_about_another_picture_is_none(folders: tuple[Path, Path]) -> None:
    release, data = folders
    samples = [sample(2, describe_image(release, "2.png"), "What is it?")]
    found = find([asked(data, "encoded.jpg"), asked(data, "new1.png", "What is it?")], samples, release, [data])
    assert list(found) == ["b/encoded.jpg"] and not found["b/encoded.jpg"].question
    assert find([], samples, release, [data]) == {}
    assert find([asked(data, "new1.png")], [], release, [data]) == {}


def test_a_picture_that_cannot_be_compared_is_an_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    release, data = folders
    gone = ImageRef("ab" * 32, 4, 4, "png", "gone.png")
    with pytest.raises(VistuneError, match="contamination cannot be ruled out: gone"):
        find([asked(data, "new0.png")], [sample(0, gone, "?")], release, [tmp_path, data])
