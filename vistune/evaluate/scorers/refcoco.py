"""RefCOCO, RefCOCO+, RefCOCOg: the region that an expression means, right when its box overlaps by half (IoU >= 0.5).

Models write boxes in texts of their own (`vistune.boxcodec`): the first box of the task's format that the answer holds
is read and put back into pixels; an answer without one is wrong. Qwen-VL's evaluation divides its 0 to 999 by 999, our
codec by 1000 at the middle of the step, which differs by less than a thousandth of the image. Two boxes without area
give 0/0: not a number, so wrong (lmms-eval divides by zero). Each sentence is one item.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vistune.boxcodec import find

THRESHOLD = 0.5

Box = Sequence[float]


def iou(a: Box, b: Box) -> float:
    """Intersection over union of x1, y1, x2, y2 boxes; NaN when neither has an area.

    >>> iou((0, 0, 10, 10), (0, 5, 10, 15)), iou((0, 0, 0, 0), (1, 1, 1, 1))
    (0.3333333333333333, nan)
    """
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = across * down
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union else math.nan


def box(text: str, codec: str, width: int, height: int) -> tuple[float, ...] | None:
    """The first box in the text, in pixels; None when there is none.

    >>> box("It is at [0.0, 0.0, 0.5, 1.0].", "llava", 100, 100)
    (0.0, 0.0, 50.0, 100.0)
    """
    form = find(codec)
    found = form.pattern.search(text)
    if found is None:
        return None
    try:
        return form.decode(found.group(0), width, height)
    except ValueError:  # corners in the wrong order, numbers beyond the frame
        return None


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy at IoU 0.5, the IoU, and whether the answer had no box."""
    image = doc["images"][0]
    said = box(answers[0], doc["codec"], image["width"], image["height"])
    overlap = iou(said, doc["box"]) if said else 0.0
    overlap = 0.0 if math.isnan(overlap) else overlap
    return {"accuracy": float(overlap >= THRESHOLD), "iou": overlap, "unparsed": float(said is None)}
