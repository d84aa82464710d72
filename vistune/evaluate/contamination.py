"""Did training see what is asked: pictures of a benchmark among those of the release, and its questions in their words.

Names of data sets say little: MME, POPE and COCO captions share COCO's photographs, TextVQA shares those of TextCaps.
So pictures are compared, by their decoded pixels (whatever the file), by a perceptual hash that survives another
encoding or size, and by that of their mirror image; questions by their words. An item is contaminated when training saw
one of its pictures, or, if it shows none, its question. Questions alone do not contaminate items with pictures:
"Is there a dog?" is asked about many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vistune.errors import VistuneError
from vistune.files import inside
from vistune.fingerprints import Fingerprint, scan
from vistune.records import ImageRef, Sample
from vistune.similar import Described, near_matches
from vistune.text import normalise

HAMMING, DIFFERENCE = 8, 0.2
"""As `validate` takes pictures for the same by default."""

How = Literal["pixels", "near", "mirrored", "question"]


@dataclass(frozen=True)
class Asked:
    """One item of a benchmark."""

    id: str
    benchmark: str
    question: str
    images: tuple[ImageRef, ...]


@dataclass(frozen=True)
class Match:
    """What training saw of an item."""

    how: (
        How  # the closest: the same pixels, nearly the same, their mirror image; or the question of an item without any
    )
    sample: str  # a training row with it
    question: bool  # a row about that picture also asks this


def find(items: Sequence[Asked], samples: Iterable[Sample], release: Path, roots: Sequence[Path]) -> dict[str, Match]:
    """item -> what training saw of it. `samples`: those of the release, whose images are relative to its folder; those
    of the items to the first of `roots` that holds them. Raises VistuneError for a picture that cannot be looked at,
    since then contamination cannot be ruled out."""
    rows = Rows(samples)
    trained = _looked(release, rows.first, "release")
    seen: dict[ImageRef, Fingerprint] = {}
    for root, images in _by_root(items, roots).items():
        seen |= _looked(root, images, "benchmarks", mirror=True)
    return matched(items, rows, trained, seen)


class Rows:
    """What training rows say, by image."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.first: dict[ImageRef, str] = {}  # a row with the image
        self.said: dict[str, set[str]] = {}  # digest of a training image -> what is asked about it
        self.anywhere: dict[str, str] = {}  # question -> a row
        for sample in samples:
            asked = {sample.instruction, *(m.text for m in sample.messages if m.role == "user")}
            questions = {normalise(text) for text in asked}
            for question in questions:
                self.anywhere.setdefault(question, sample.id)
            for image in sample.images:
                self.first.setdefault(image, sample.id)
                self.said.setdefault(image.sha256, set()).update(questions)


def matched(
    items: Sequence[Asked],
    rows: Rows,
    trained: Mapping[ImageRef, Fingerprint],
    seen: Mapping[ImageRef, Fingerprint],
) -> dict[str, Match]:
    """As `find`, from the fingerprints of the release's pictures and the benchmarks'. Time grows with their number, not
    with that of their pairs."""
    twins = _twins(trained, seen)
    found = {}
    for item in items:
        pairs = [pair for image in item.images for pair in twins.get(seen[image].pixels, ())]
        if not pairs and item.images:
            continue
        question = normalise(item.question)
        if pairs:
            how = min((how for how, _ in pairs), key=("pixels", "near", "mirrored").index)
            ids = sorted(rows.first[image] for kind, image in pairs if kind == how)
            found[item.id] = Match(how, ids[0], any(question in rows.said[image.sha256] for _, image in pairs))
        elif question in rows.anywhere:
            found[item.id] = Match("question", rows.anywhere[question], True)
    return found


def counted(items: Sequence[Asked], found: Mapping[str, Match]) -> dict[str, dict[str, Any]]:
    """For each benchmark how many items training saw and how, with one of its rows as an example."""
    tables: dict[str, dict[str, Any]] = {}
    for item in items:
        table = tables.setdefault(item.benchmark, {"items": 0, "contaminated": 0, "how": Counter(), "example": None})
        table["items"] += 1
        match = found.get(item.id)
        if match:
            table["contaminated"] += 1
            table["how"][match.how] += 1
            table["how"]["question about the picture"] += int(match.question and match.how != "question")
            table["example"] = table["example"] or {"item": item.id, "sample": match.sample, "how": match.how}
    return {name: table | {"how": dict(sorted(table["how"].items()))} for name, table in sorted(tables.items())}


def _twins(
    trained: Mapping[ImageRef, Fingerprint], seen: Mapping[ImageRef, Fingerprint]
) -> dict[str, list[tuple[How, ImageRef]]]:
    """Pixel digest of a benchmark's picture -> (how, training image) of those that show the same."""
    by_pixels: dict[str, list[ImageRef]] = {}
    for image, print_ in trained.items():
        by_pixels.setdefault(print_.pixels, []).append(image)
    found: dict[str, list[tuple[How, ImageRef]]] = {
        pixels: [("pixels", image) for image in by_pixels.get(pixels, ())]
        for pixels in {p.pixels for p in seen.values()}
    }
    known = {p.pixels: (p.hash, p.thumb) for p in trained.values() if p.thumb is not None}
    looks: dict[tuple[str, How], tuple[int, np.ndarray]] = {}
    for print_ in seen.values():
        if print_.thumb is not None:
            looks[print_.pixels, "near"] = print_.hash, print_.thumb
            if print_.mirrored is not None:
                looks[print_.pixels, "mirrored"] = print_.mirrored, print_.thumb[:, ::-1]
    ours, theirs = list(looks), list(known)
    for i, j in near_matches(_described(looks.values()), _described(known.values()), HAMMING, DIFFERENCE):
        pixels, how = ours[i]
        if not (how == "near" and pixels == theirs[j]):
            found[pixels] += [(how, image) for image in by_pixels[theirs[j]]]
    return found


def _described(rows: Iterable[tuple[int, np.ndarray]]) -> Described:
    pairs = list(rows)
    return np.array([hash for hash, _ in pairs], dtype=np.uint64), [thumb for _, thumb in pairs]


def _by_root(items: Sequence[Asked], roots: Sequence[Path]) -> dict[Path, set[ImageRef]]:
    held: dict[Path, set[ImageRef]] = {}
    for image in {image for item in items for image in item.images}:
        root = next((root for root in roots if inside(root, image.path).is_file()), roots[0])
        held.setdefault(root, set()).add(image)
    return held


def _looked(root: Path, images: Iterable[ImageRef], label: str, mirror: bool = False) -> dict[ImageRef, Fingerprint]:
    prints = scan(root, images, label, mirror)
    bad = sorted(p.detail for p in prints.values() if p.defect or p.damage)
    if bad:
        raise VistuneError(
            f"{len(bad)} pictures in {root} cannot be compared, so contamination cannot be ruled out: {bad[0]}. "
            "Restore them."
        )
    return prints
