"""Scenes: one to six drawings on a background, none overlapping, with exact boxes from the alpha masks.

A scene's layout comes from cutting the picture in two again and again until every object has its own cell, so that
objects cannot overlap and often stand clearly on one side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vistune.hashing import keyed, shuffled, uniform
from vistune.sources.demo import backgrounds
from vistune.sources.demo.backgrounds import Background
from vistune.sources.demo.drawings import Concept

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

OBJECTS = (0.20, 0.27, 0.22, 0.16, 0.09, 0.06)
"""Share of scenes with 1, 2, ... 6 objects."""

DUPLICATES = 0.25
"""Share of scenes of two or more objects where one concept is drawn more than once."""

SMALLEST, LARGEST = 48 / 224, 140 / 224
"""An object's longer side as a share of the picture's side."""

OPAQUE = 24
"""Alpha below this is dropped before composing, so that the box is exactly where pixels change."""

GAP = 3
"""Pixels kept free between an object and its cell's edge."""


@dataclass(frozen=True)
class Placed:
    concept: Concept
    box: tuple[int, int, int, int]  # pixel x1, y1, x2, y2, the last two exclusive

    @property
    def area(self) -> int:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Scene:
    id: int
    background: Background
    objects: tuple[Placed, ...]

    def counts(self) -> dict[Concept, int]:
        """How often each concept occurs, in the order of first occurrence."""
        found: dict[Concept, int] = {}
        for placed in self.objects:
            found[placed.concept] = found.get(placed.concept, 0) + 1
        return found

    def alone_at(self, side: str) -> Placed | None:
        """The object that stands entirely on the left, right, top or bottom of all others, if one does."""
        if len(self.objects) < 2:
            return None
        axis, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}[side]
        first, *others = sorted(self.objects, key=lambda p: sign * (p.box[axis] + p.box[axis + 2]))
        edge = first.box[axis + 2] if sign > 0 else -first.box[axis]
        return first if all(sign * (o.box[axis] if sign > 0 else o.box[axis + 2]) >= edge for o in others) else None


def draw_concepts(concepts: Sequence[Concept], scenes: int, most: int, seed: int, part: str) -> Iterator[list[Concept]]:
    """The concepts of each scene. They are dealt from a shuffled deck, so that all occur about equally often."""
    deck: list[Concept] = []
    rounds = 0
    for scene in range(scenes):
        total = _how_many(uniform(seed, "demo", part, scene, "objects"), min(most, len(concepts)))
        repeated = 0
        if total >= 2 and uniform(seed, "demo", part, scene, "duplicate") < DUPLICATES:
            repeated = 1 + keyed(seed, "demo", part, scene, "copies") % min(total - 1, 3)
        chosen: list[Concept] = []
        while len(chosen) < total - repeated:
            fresh = next((i for i in range(len(deck) - 1, -1, -1) if deck[i] not in chosen), None)
            if fresh is None:  # nothing is left, or only what the scene already has: deal another round below it
                rounds += 1
                deck = shuffled(concepts, seed, "demo", part, "deck", rounds) + deck
            else:
                chosen.append(deck.pop(fresh))
        yield shuffled(chosen + [chosen[0]] * repeated, seed, "demo", part, scene, "order")


def _how_many(draw: float, most: int) -> int:
    shares = OBJECTS[:most]
    draw *= sum(shares)
    for number, share in enumerate(shares, start=1):
        draw -= share
        if draw < 0:
            return number
    return most


def cells(number: int, box: tuple[int, int, int, int], seed: int, *key: object) -> list[tuple[int, int, int, int]]:
    """`number` disjoint boxes (pixel x1, y1, x2, y2) that cover `box`, from cutting it in two repeatedly.

    >>> len(cells(5, (0, 0, 224, 224), 0, "doc"))
    5
    """
    if number == 1:
        return [box]
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    across = width > height if max(width, height) > 1.2 * min(width, height) else keyed(seed, *key, "cut") % 2 == 0
    first = number // 2
    if number == 4 and keyed(seed, *key, "uneven") % 2:
        first = 1
    if keyed(seed, *key, "swap") % 2:
        first = number - first
    share = 0.6 * first / number + 0.2 + 0.06 * (uniform(seed, *key, "share") - 0.5)
    if across:
        middle = x1 + round(width * share)
        parts = ((x1, y1, middle, y2), (middle, y1, x2, y2))
    else:
        middle = y1 + round(height * share)
        parts = ((x1, y1, x2, middle), (x1, middle, x2, y2))
    return cells(first, parts[0], seed, *key, 0) + cells(number - first, parts[1], seed, *key, 1)


def compose(
    id: int, concepts: Sequence[Concept], drawings: Mapping[str, np.ndarray], size: int, seed: int, part: str
) -> tuple[np.ndarray, Scene]:
    """The picture, uint8 (size, size, 3), and what is in it."""
    import numpy as np

    key = ("demo", part, id)
    background = backgrounds.pick(seed, *key)
    picture = backgrounds.paint(background, size, seed, *key)
    placed = []
    for n, (concept, cell) in enumerate(
        zip(concepts, cells(len(concepts), (0, 0, size, size), seed, *key), strict=True)
    ):
        pixels = _scaled(drawings[concept.name], cell, size, uniform(seed, *key, n, "size"))
        height, width = pixels.shape[:2]
        x = cell[0] + GAP + int((cell[2] - cell[0] - 2 * GAP - width) * uniform(seed, *key, n, "x"))
        y = cell[1] + GAP + int((cell[3] - cell[1] - 2 * GAP - height) * uniform(seed, *key, n, "y"))
        region = picture[y : y + height, x : x + width]
        shows_through = 255 - pixels[..., 3:].astype(np.uint16)
        region[:] = pixels[..., :3] + (region * shows_through + 127) // 255
        placed.append(Placed(concept, (x, y, x + width, y + height)))
    return picture, Scene(id, background, tuple(placed))


def _scaled(drawing: np.ndarray, cell: tuple[int, int, int, int], size: int, draw: float) -> np.ndarray:
    """The drawing scaled to fit its cell and cropped to its opaque extent; colours multiplied by alpha, as given."""
    import numpy as np
    from PIL import Image

    height, width = drawing.shape[:2]
    longest = max(height, width)
    fit = min((cell[2] - cell[0] - 2 * GAP) / width, (cell[3] - cell[1] - 2 * GAP) / height) * longest
    target = min(fit, max(SMALLEST * size, min(fit * (0.72 + 0.28 * draw), LARGEST * size)))
    new = (max(1, int(width * target / longest)), max(1, int(height * target / longest)))
    whole = Image.frombuffer("RGBa", (width, height), np.ascontiguousarray(drawing))
    # A filter without negative weights: colours stay within alpha, so that composing cannot exceed 255.
    pixels = np.array(whole.resize(new, Image.Resampling.HAMMING))
    pixels[pixels[..., 3] < OPAQUE] = 0
    rows, columns = np.nonzero(pixels[..., 3].any(1))[0], np.nonzero(pixels[..., 3].any(0))[0]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
