"""Boxes as annotation files write them -> pixel boxes inside their image."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Any, Literal

from vistune.records import Box, Polygon

Frame = Literal["xywh", "xyxy", "xywh_fraction", "xyxy_fraction"]
"""What four numbers mean: left, top, width, height or left, top, right, bottom, in pixels or as fractions of the
image's width and height."""

TOLERANCE = 1.0
"""Pixels by which a box may leave the image and is clipped; beyond, it belongs to another image or frame."""

NO_BOX: Box = (0.0, 0.0, 0.0, 0.0)
"""Stands for a box until the size of its image is known."""


def pixel_box(
    numbers: Sequence[Any], width: int, height: int, frame: Frame = "xywh", clip: bool = False
) -> tuple[Box | None, str, str]:
    """The box as x1, y1, x2, y2 within an image of `width` x `height` pixels.

    Returns (box, "", "") or (None, reason, detail): `box_degenerate` when it is no box at all (not four finite
    numbers, or no area), `box_outside` when it leaves the image by more than `TOLERANCE`, `box_fraction` when it should
    be in pixels and lies in the first one. With `clip`, what leaves the image is cut off however far it goes, and
    (box, "box_clipped", detail) tells of it.

    >>> pixel_box([10, 20, 30, 40], 100, 100)
    ((10.0, 20.0, 40.0, 60.0), '', '')
    >>> pixel_box([90.5, 0, 10, 10], 100, 100)[0]
    (90.5, 0.0, 100.0, 10.0)
    >>> pixel_box([95, 0, 10, 10], 100, 100)[1], pixel_box([95, 0, 10, 10], 100, 100, clip=True)[:2]
    ('box_outside', ((95.0, 0.0, 100.0, 10.0), 'box_clipped'))
    >>> pixel_box([0.25, 0, 0.5, 1], 100, 60, "xyxy_fraction")[0], pixel_box([0.25, 0, 0.5, 1], 100, 60)[1]
    ((25.0, 0.0, 50.0, 60.0), 'box_fraction')
    """
    shown = f"box {list(numbers)!r:.80}"
    found = [v for v in numbers if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != 4 or len(found) != 4 or not all(abs(v) <= sys.float_info.max for v in found):
        return None, "box_degenerate", f"{shown} is not four finite numbers."
    x1, y1, x2, y2 = map(float, found)
    if frame.startswith("xywh"):
        x2, y2 = x1 + x2, y1 + y2
    if frame.endswith("fraction"):
        x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
    elif 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1 and width > 1 < height:
        return None, "box_fraction", f"{shown} lies in the first pixel: it seems to be in fractions of the image."
    if x1 >= x2 or y1 >= y2:
        return None, "box_degenerate", f"{shown} has no area."
    over = max(-x1, -y1, x2 - width, y2 - height)
    if over > TOLERANCE and not clip:
        return None, "box_outside", f"{shown} leaves the {width}x{height} image by more than {TOLERANCE:g} px."
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if box[0] >= box[2] or box[1] >= box[3]:
        return None, "box_degenerate", f"{shown} has no area inside the {width}x{height} image."
    return (box, "box_clipped", f"{shown} is cut off at the border.") if over > TOLERANCE else (box, "", "")


def pixel_polygon(points: Sequence[float] | bytes, width: int, height: int) -> Polygon:
    """An outline x, y, x, y, ... (or these doubles packed) in pixels, corners outside the image moved to the nearest
    point of its border.

    >>> pixel_polygon([-2, 5, 10, 5, 10, 31], 40, 30)
    (0.0, 5.0, 10.0, 5.0, 10.0, 30.0)
    """
    numbers = array("d", points)
    sides = (float(width), float(height))
    return tuple(min(max(value, 0.0), sides[n % 2]) for n, value in enumerate(numbers))
