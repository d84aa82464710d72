"""A sample of easy-vqa's test split (github.com/vzhou842/easy-VQA, MIT) as a held-out benchmark by another author."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from vistune.hashing import shuffled
from vistune.sources.demo.drawings import package
from vistune.sources.demo.questions import Asked
from vistune.sources.demo.write import image_name, write_vqa
from vistune.sources.spec import Benchmark

NAME = "easy_vqa"
LICENCE = "MIT"

CHOICES = (
    ("yes", "no"),
    ("circle", "rectangle", "triangle"),
    ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow"),
)


def build(output: Path, images: int, seed: int) -> tuple[Benchmark, int]:
    """Writes `images` keyed-sampled images, each with one yes/no question and one about its shape or colour.
    Returns the benchmark and the number of images."""
    data = package("easy-vqa") / "data" / "test"
    rows = json.loads((data / "questions.json").read_text(encoding="utf-8"))
    by_image: dict[int, list[tuple[str, str]]] = {}
    for text, answer, image in rows:
        by_image.setdefault(image, []).append((text, answer))
    folder = output / NAME
    (folder / "images").mkdir(parents=True, exist_ok=True)
    asked = []
    chosen = sorted(shuffled(sorted(by_image), seed, "demo", NAME)[:images])
    for image in chosen:
        shutil.copyfile(data / "images" / f"{image}.png", folder / "images" / image_name(image))
        order = shuffled(by_image[image], seed, "demo", NAME, image)
        for closed in (True, False):
            text, answer = next(((t, x) for t, x in order if (x in CHOICES[0]) == closed), ("", ""))
            if text:
                choices = next(c for c in CHOICES if answer in c)
                asked.append((image, Asked(text, answer, text.split()[0], choices)))
    write_vqa(folder, asked, LICENCE)
    files = {"questions": f"{NAME}/questions.json", "annotations": f"{NAME}/annotations.json"}
    place = {"images": f"{NAME}/images", "image_pattern": "{image_id:08d}.png"}
    return Benchmark(NAME, "vqa", "external", False, **files, **place, licence=LICENCE), len(chosen)
