"""Box arithmetic: text of a box, overlap, and which side of another box a box lies on. Pure functions.

Boxes are pixel (x1, y1, x2, y2), see `records.Box`. Text uses integers 0-999 over the image's own width and height,
0 being its left or upper edge and 999 its right or lower edge.
"""

from __future__ import annotations

from typing import Literal

from vistune.records import Box

BINS = 999
Side = Literal["left", "right", "above", "below"]


def box_text(box: Box, width: int, height: int) -> str:
    """`box` as text in an image of `width` x `height` pixels; each number is off by at most half a bin.

    >>> box_text((0, 50, 100, 200), 100, 200)
    '[0, 250, 999, 999]'
    """
    x, y = BINS / width, BINS / height
    return f"[{round(box[0] * x)}, {round(box[1] * y)}, {round(box[2] * x)}, {round(box[3] * y)}]"


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
    x, y = width / BINS, height / BINS
    return (bins[0] * x, bins[1] * y, bins[2] * x, bins[3] * y)


def has_area_as_text(box: Box, width: int, height: int) -> bool:
    """Whether the box still has an area once its corners are rounded to bins.

    >>> has_area_as_text((10, 10, 11, 11), 8000, 8000)
    False
    """
    x, y = BINS / width, BINS / height
    return round(box[0] * x) < round(box[2] * x) and round(box[1] * y) < round(box[3] * y)


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


def side_of(a: Box, b: Box, width: int, height: int, margin: float = 0.03) -> Side | None:
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
