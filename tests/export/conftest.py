"""A tiny release: three pictures of different shapes, and samples with boxes, several turns and several images."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vistune.boxcodec import NATIVE
from vistune.records import ImageRef, Lineage, Message, Region, Sample, SourceFile, conversation, sample_id
from vistune.store import add_image, describe_image, write_samples

CREDITS = {"wide.png": ("CC BY 4.0", "Ann"), "tall.jpeg": ("CC0 1.0", ""), "turned.jpeg": ("CC BY 4.0", "Bob\tB.")}
BOX = {
    "wide.png": (10.0, 20.0, 110.0, 45.0),
    "tall.jpeg": (0.0, 0.0, 30.0, 90.0),
    "turned.jpeg": (40.0, 10.0, 60.0, 40.0),
}


@dataclass
class Tiny:
    """`samples` as they are written; change them and `write()`, then export `folder`."""

    folder: Path
    images: dict[str, ImageRef]
    samples: dict[str, Sample]

    def write(self, *more: Sample) -> Path:
        rows = [*self.samples.values(), *more]
        write_samples(self.folder, rows)
        splits = sorted({s.split for s in rows})
        facts = {"samples": len(rows), "digest": "ab" * 32}
        facts["by"] = {"split": {split: sum(s.split == split for s in rows) for split in splits}}
        (self.folder / "release.json").write_text(json.dumps(facts))
        credits = {self.images[n].path: {"licence": a, "attribution": b} for n, (a, b) in CREDITS.items()}
        (self.folder / "attribution.json").write_text(json.dumps(credits))
        return self.folder

    def by_id(self) -> dict[str, Sample]:
        return {s.id: s for s in self.samples.values()}


def region(image: ImageRef, name: str, number: int = 0, mention: tuple[int, ...] = ()) -> Region:
    return Region(BOX[name], "cat", "7", number, mention)


def sample(task: str, text: tuple[tuple[str, str], ...], images: tuple[ImageRef, ...], **fields: Any) -> Sample:
    """A sample whose triple is its first turn."""
    lineage = Lineage(f"pets/{task}", ("7",), (SourceFile("boxes.json", "cd" * 32),), f"{task}.en.01@1+box@1")
    made = Sample(
        id=sample_id(task, lineage, 0),
        dataset="pets",
        split="train",
        task=task,
        method="adapt",
        instruction=text[0][0],
        input="",
        response=text[0][1],
        messages=conversation(list(text)),
        images=images,
        lineage=lineage,
        licence="CC BY 4.0",
        group="g",
    )
    return replace(made, **fields)


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    source, folder = tmp_path / "source", tmp_path / "release"
    source.mkdir()
    folder.mkdir()
    pictures = {"wide.png": (120, 50), "tall.jpeg": (30, 90), "turned.jpeg": (60, 80)}
    for name, size in pictures.items():
        picture = Image.new("RGB", size, (200, 120, 40))
        picture.paste((20, 90, 200), (0, 0, size[0] // 2, size[1] // 2))
        exif = picture.getexif()
        if name == "turned.jpeg":
            exif[0x0112] = 6  # shown turned by 90 degrees: 80 x 60
        picture.save(source / name, exif=exif)
    images = {name: add_image(folder, source / name, describe_image(source, name)) for name in pictures}
    wide, tall, turned = images.values()

    asked = f"Where is the cat? Answer with the box {NATIVE.words()}."
    where = NATIVE.encode(BOX["wide.png"], 120, 50)
    answer = f"The cat is at {where}."
    box = (region(wide, "wide.png", mention=(1, 14, 14 + len(where))),)
    samples = {"locate": sample("locate", ((asked, answer),), (wide,), regions=box)}

    here = NATIVE.encode(BOX["tall.jpeg"], 30, 90)
    query = f"Region: {here}"
    user = f"Name the thing.\n{query}\nCoordinates are {NATIVE.words()}."
    samples["name_region"] = sample(
        "name_region",
        ((user, "cat"),),
        (tall,),
        instruction=f"Name the thing. Coordinates are {NATIVE.words()}.",
        input=query,
        regions=(region(tall, "tall.jpeg", mention=(0, 24, 24 + len(here))),),
        split="validation",
    )
    zh = f"猫在哪里？方框写作{NATIVE.words('zh')}。"
    spot = NATIVE.encode(BOX["turned.jpeg"], 80, 60)
    samples["zh"] = sample(
        "zh",
        ((zh, spot),),
        (turned,),
        language="zh",
        regions=(region(turned, "turned.jpeg", mention=(1, 0, len(spot))),),
    )
    talk = (('Is it "big"?\nSay so.', "Yes <b>, it is.\u2028"), ("And now?", "Also."))
    samples["talk"] = sample("talk", talk, (wide,), input="earlier: none", instruction="And now?", response="Also.")
    several = (
        Message("system", "Be brief."),
        Message("user", "Is  like ? Or not?", (1, 0), (3, 9)),
        Message("assistant", "No."),
        Message("user", "And this?", (0,)),
        Message("assistant", "No, too."),
    )
    samples["several"] = sample("several", (("Is it?", "No."),), (wide, tall), messages=several)
    plain = (Message("user", "What is 1 + 1? [1, 2, 3, 4]"), Message("assistant", "2"))
    lineage = Lineage("pets/text", ("9",), ())
    samples["text"] = sample("text", ((plain[0].text, "2"),), (), messages=plain, lineage=lineage)
    return Tiny(folder, images, samples)


@pytest.fixture
def exported(tiny: Tiny, tmp_path: Path) -> Callable[..., Path]:
    """Exports the tiny release and returns the folder."""
    from vistune.export import export

    def run(view: str, name: str = "out", **options: Any) -> Path:
        export(tiny.write(), view, tmp_path / name, **options)
        return tmp_path / name

    return run
