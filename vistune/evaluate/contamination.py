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
from vistune.similar import near_pairs
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
    first: dict[ImageRef, str] = {}
    said: dict[str, set[str]] = {}  # digest of a training image -> what is asked about it
    anywhere: dict[str, str] = {}
    for sample in samples:
        questions = {normalise(m.text) for m in sample.messages if m.role == "user"} | {normalise(sample.instruction)}
        for question in questions:
            anywhere.setdefault(question, sample.id)
        for image in sample.images:
            first.setdefault(image, sample.id)
            said.setdefault(image.sha256, set()).update(questions)
    trained = _looked(release, first, "release")
    seen: dict[ImageRef, Fingerprint] = {}
    for root, images in _by_root(items, roots).items():
        seen |= _looked(root, images, "benchmarks", mirror=True)
    twins = _twins(trained, seen)
    found = {}
    for item in items:
        question = normalise(item.question)
        pairs = [pair for image in item.images for pair in twins.get(seen[image].pixels, ())]
        if pairs:
            how = min((how for how, _ in pairs), key=("pixels", "near", "mirrored").index)
            rows = sorted(first[image] for kind, image in pairs if kind == how)
            found[item.id] = Match(how, rows[0], any(question in said[image.sha256] for _, image in pairs))
        elif not item.images and question in anywhere:
            found[item.id] = Match("question", anywhere[question], True)
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
    found: dict[str, list[tuple[How, ImageRef]]] = {}
    rows: dict[tuple[str, How | None], tuple[int, np.ndarray]] = {}  # (pixels, None) of training
    for print_ in trained.values():
        if print_.thumb is not None:
            rows[print_.pixels, None] = print_.hash, print_.thumb
    for print_ in seen.values():
        found[print_.pixels] = [("pixels", image) for image in by_pixels.get(print_.pixels, ())]
        if print_.thumb is not None:
            rows[print_.pixels, "near"] = print_.hash, print_.thumb
            if print_.mirrored is not None:
                rows[print_.pixels, "mirrored"] = print_.mirrored, print_.thumb[:, ::-1]
    if len(rows) < 2:
        return found
    names = list(rows)
    hashes = np.array([hash for hash, _ in rows.values()], dtype=np.uint64)
    thumbs = np.stack([thumb for _, thumb in rows.values()])
    for i, j in near_pairs(hashes, thumbs, HAMMING, DIFFERENCE):
        (left, ours), (right, theirs) = names[i], names[j]
        if (ours is None) == (theirs is None):  # two of training, or two of the benchmark
            continue
        pixels, how, other = (right, theirs, left) if ours is None else (left, ours, right)
        if how is not None and not (how == "near" and pixels == other):
            found[pixels] += [(how, image) for image in by_pixels[other]]
    return found


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
