"""Segmentations in COCO's layout: polygons are kept, run-length masks only checked, since their box and area say
enough."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from vistune.sources.rows import Malformed


def outlines(found: list[Any] | dict[str, Any]) -> tuple[bytes, ...]:
    """The polygons of a segmentation, but for those of less than three corners. They stay packed until they are
    needed: COCO's corners as Python floats fill a gigabyte."""
    if isinstance(found, dict):
        _check_mask(found)
        return ()
    kept = []
    try:
        for outline in found:
            numbers = len(outline)
            if numbers % 2 or not math.isfinite(sum(outline)):
                raise Malformed(f"segmentation holds {outline!r:.80}, expected finite x, y, x, y, ...")
            if numbers >= 6:
                kept.append(_packer(numbers)(*outline))
    except (TypeError, OverflowError, struct.error):
        raise Malformed(f"segmentation is {found!r:.80}, expected lists of numbers or a mask") from None
    return tuple(kept)


@cache
def _packer(numbers: int) -> Callable[..., bytes]:
    return struct.Struct(f"{numbers}d").pack


def _check_mask(mask: dict[str, Any]) -> None:
    """Raises Malformed unless it is a run-length mask: runs as a list or as packed text, and height and width."""
    size, runs = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and n > 0 for n in size):
        raise Malformed(f"segmentation has the size {size!r:.80}, expected [height, width]")
    if isinstance(runs, list):
        if not all(type(n) is int and n >= 0 for n in runs) or sum(runs) != size[0] * size[1]:
            raise Malformed(f"segmentation has runs that do not fill {size[0]} x {size[1]} pixels")
    elif not isinstance(runs, str) or not runs:
        raise Malformed(f"segmentation has the counts {runs!r:.80}, expected a list of runs or text")
