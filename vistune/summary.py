"""What a stage did, in one line of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def counts_line(summary: Mapping[str, Any]) -> str:
    """The count table of a stage's summary in words.

    >>> counts_line({"counts": {"in": 1200, "out": 1190, "rejected": {"box_outside": 10}}})
    '1,200 in → 1,190 out, 10 rejected (box_outside 10)'
    >>> counts_line({"counts": {"scenes": 3}})
    'scenes 3'
    """
    counts = dict(summary.get("counts") or {})
    parts = []
    if "in" in counts and "out" in counts:
        parts.append(f"{counts.pop('in'):,} in → {counts.pop('out'):,} out")
    rejected = counts.pop("rejected", {})
    if rejected:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(rejected.items(), key=lambda i: (-i[1], i[0])))
        parts.append(f"{sum(rejected.values()):,} rejected ({reasons})")
    parts += [f"{name} {n:,}" for name, n in counts.items() if isinstance(n, int | float)]
    return ", ".join(parts) or "done"
