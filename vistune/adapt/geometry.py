"""Box arithmetic: text of a box, overlap, sides, extremes and the order of reading. Pure functions.

Boxes are pixel (x1, y1, x2, y2), see `records.Box`. Text uses integers 0-999 over the image's own width and height,
0 being its left or upper edge and 999 its right or lower edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vistune.records import Box

BINS = 999
Side = Literal["left", "right", "above", "below"]
Extreme = Literal["left", "right", "top", "bottom", "largest", "smallest"]
EXTREMES: tuple[Extreme, ...] = ("left", "right", "top", "bottom", "largest", "smallest")

MARGIN = 0.03
"""Share of the image's width or height by which boxes must be apart for their order to be clear."""

LARGER = 1.5
"""How many times the area of another box a larger one must have for its size to be clear."""


def box_text(box: Box, width: int, height: int) -> str:
    """`box` as text in an image of `width` x `height` pixels; each number is off by at most half a bin. The same as
    `boxcodec.NATIVE` writes, of which this is the part that a million samples need.

    >>> box_text((0, 50, 100, 200), 100, 200)
    '[0, 250, 999, 999]'
    """
    x1, y1, x2, y2 = box
    return (
        f"[{round(x1 * BINS / width)}, {round(y1 * BINS / height)}, "
        f"{round(x2 * BINS / width)}, {round(y2 * BINS / height)}]"
    )


def parse_box_text(text: str, width: int, height: int) -> Box:
    """The inverse of `box_text`, up to half a bin (width / 1998 pixels across, height / 1998 down).
    Raises ValueError when `text` is not four integers from 0 to 999 in square brackets.

    >>> parse_box_text("[0, 250, 999, 999]", 100, 200)[2:]
    (100.0, 200.0)
    """
    inner = text.strip()
    parts = inner[1:-1].split(",") if inner[:1] == "[" and inner[-1:] == "]" else []
    bins = [int(p) for p in parts if p.strip().isdecimal()]
    if len(parts) != 4 or len(bins) != 4 or max(bins) > BINS:
        raise ValueError(f"expected [x1, y1, x2, y2] with integers from 0 to {BINS}, got {text!r}")
    x1, y1, x2, y2 = bins
    return (x1 * width / BINS, y1 * height / BINS, x2 * width / BINS, y2 * height / BINS)


def has_area_as_text(box: Box, width: int, height: int) -> bool:
    """Whether the box still has an area once its corners are rounded to bins.

    >>> has_area_as_text((10, 10, 11, 11), 8000, 8000)
    False
    """
    x1, y1, x2, y2 = box
    across = round(x1 * BINS / width) < round(x2 * BINS / width)
    return across and round(y1 * BINS / height) < round(y2 * BINS / height)


def iou(a: Box, b: Box) -> float:
    """Intersection over union, 0 to 1.

    >>> iou((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def side_of(a: Box, b: Box, width: int, height: int, margin: float = MARGIN) -> Side | None:
    """Where `a` lies as seen from `b`, or None when a person could answer in two ways.

    The boxes must be apart along one axis by at least `margin` of the image's size, and face each other along the
    other axis: their spans share at least half of the shorter one. Diagonal pairs give None.

    >>> side_of((0, 0, 10, 10), (20, 2, 30, 12), 100, 100)
    'left'
    >>> side_of((0, 0, 10, 10), (20, 20, 30, 30), 100, 100) is None
    True
    """
    across = min(a[2], b[2]) - max(a[0], b[0])  # shared span; negative: the gap between them
    down = min(a[3], b[3]) - max(a[1], b[1])
    if -across >= margin * width and 2 * down >= min(a[3] - a[1], b[3] - b[1]):
        return "left" if a[0] < b[0] else "right"
    if -down >= margin * height and 2 * across >= min(a[2] - a[0], b[2] - b[0]):
        return "above" if a[1] < b[1] else "below"
    return None


def extreme(boxes: Sequence[Box], which: Extreme, width: int, height: int) -> int | None:
    """Which box lies furthest to a side, or is the largest or smallest; None when a person could disagree.

    A side needs a lead of 3 % of the image, by the box's edge on that side and by its middle. Size needs an area at
    least half as large again as the next one's.

    >>> extreme([(0, 0, 9, 9), (50, 0, 60, 10)], "left", 100, 100)
    0
    >>> extreme([(0, 0, 90, 9), (2, 0, 10, 10)], "left", 100, 100) is None
    True
    """
    if len(boxes) < 2:
        return None
    if which in ("largest", "smallest"):
        areas = [area(box) for box in boxes]
        order = sorted(range(len(boxes)), key=areas.__getitem__, reverse=which == "largest")
        small, large = sorted((areas[order[0]], areas[order[1]]))
        return order[0] if large >= LARGER * small else None
    axis, size = (0, width) if which in ("left", "right") else (1, height)
    sign, edge = (1, axis) if which in ("left", "top") else (-1, axis + 2)
    edges = [sign * box[edge] for box in boxes]
    middles = [sign * (box[axis] + box[axis + 2]) / 2 for box in boxes]
    first = min(range(len(boxes)), key=edges.__getitem__)
    lead = MARGIN * size
    clear = all(
        edges[first] + lead <= edges[n] and middles[first] + lead <= middles[n] for n in range(len(boxes)) if n != first
    )
    return first if clear else None


def area(box: Box) -> float:
    """Square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def reading_order(boxes: Sequence[Box]) -> list[int]:
    """Indices of text boxes as they are read: lines from top to bottom, each from left to right. Boxes share a line
    when the middle of each lies within the height of the line's first.

    >>> reading_order([(50, 2, 90, 12), (0, 0, 40, 10), (0, 20, 40, 30)])
    [1, 0, 2]
    """
    rest = sorted(range(len(boxes)), key=lambda n: (boxes[n][1] + boxes[n][3], boxes[n][0], n))
    lines: list[list[int]] = []
    for n in rest:
        middle = (boxes[n][1] + boxes[n][3]) / 2
        if lines and boxes[lines[-1][0]][1] <= middle <= boxes[lines[-1][0]][3]:
            lines[-1].append(n)
        else:
            lines.append([n])
    return [n for line in lines for n in sorted(line, key=lambda n: (boxes[n][0], n))]
