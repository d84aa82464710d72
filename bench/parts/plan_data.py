"""A large release for the bench of `vistune tune --plan`: records alone, of pictures that are never opened."""

import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from parts.tune_data import LONGEST, MEDIAN, SPREAD, TEMPLATE, WITH_IMAGE

TASKS = {"photos": ("conversation", "vqa", "caption"), "documents": ("transcription", "extractive_qa")}
"""Data set -> its tasks."""

SIZES = [(640, 480), (480, 640), (640, 427), (500, 375), (1024, 768), (1280, 720), (336, 336), (800, 1200)]

SMALL = ("the", "a", "of", "and", "in", "on", "is", "to", "with", "at", "two", "an", "it", "are", "that", "for", "this")


def words() -> tuple[list[str], list[float]]:
    """English words with cumulative weights after Zipf's law: function words first, then names of things."""
    from vistune.models.evidence import open_vocabulary

    found = list(dict.fromkeys([*SMALL, *(word for name in open_vocabulary() for word in name.split())]))
    return found, list(accumulate(1 / (n + 3) for n in range(len(found))))


def samples(count: int) -> Iterator[Any]:
    """Lengths as in the tune bench, in words; up to three samples about a picture, each of them of one turn or two."""
    from vistune.records import ImageRef, Lineage, Message, Sample, conversation

    rng, (known, weights) = random.Random(0), words()
    picture = shared = 0
    for n in range(count):
        if not shared:
            picture, shared = picture + 1, rng.choice((1, 1, 2, 3))
        shared -= 1
        dataset = ("photos", "documents")[picture % 3 == 0]
        task = rng.choice(TASKS[dataset])
        free = max(min(round(MEDIAN * 2.718281828 ** rng.gauss(0, SPREAD)), LONGEST) - TEMPLATE, 8)
        drawn = rng.choices(known, cum_weights=weights, k=free)
        turns = 2 if task == "conversation" and free > 40 else 1
        part = free // (2 * turns)
        pieces = [" ".join(drawn[k * part : (k + 1) * part]) for k in range(2 * turns)]
        pairs = zip(pieces[::2], pieces[1::2], strict=True)
        messages = conversation([(f"{asked.capitalize()}?", f"{told.capitalize()}.") for asked, told in pairs])
        shown = picture % 100 < 100 * WITH_IMAGE
        width, height = SIZES[picture % len(SIZES)]
        image = ImageRef(f"{picture:064x}", width - picture % 5, height, "jpeg", f"images/{picture:012d}.jpg")
        yield Sample(
            id=f"vt1:{n:026d}",
            dataset=dataset,
            split="train",
            task=task,
            method="adapt",
            instruction=messages[0].text,
            input="",
            response=messages[-1].text,
            messages=messages if shown else (Message("user", messages[0].text), *messages[1:]),
            images=(image,) if shown else (),
            lineage=Lineage(f"{dataset}/{picture}", (str(n),), ()),
            licence="CC0-1.0",
            group=str(picture),
        )


def write(folder: Path, count: int) -> Path:
    """A record folder of so many samples; one that is there already is taken."""
    from vistune import store

    if not (folder / store.MANIFEST).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        store.write_samples(folder, samples(count))
    return folder
