"""Geometry of the charts, in percent of the drawing area: the template draws, so that a chart fits any width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

MAX_POINTS = 300
"""Points drawn of one line: more do not show, and every one costs bytes in the page."""


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from the last below `low` to the first above `high`.

    >>> nice_ticks(0.13, 0.92)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> nice_ticks(0, 230, 4)
    [0.0, 100.0, 200.0, 300.0]
    """
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def label(value: float) -> str:
    """A tick's text.

    >>> label(0.2), label(1500.0), label(-0.0)
    ('0.2', '1,500', '0')
    """
    return f"{value + 0.0:,.6g}" if abs(value) < 1000 else f"{value:,.0f}"


def thin(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most `limit` points, each the mean of its neighbourhood.

    >>> thin([(0, 1.0), (1, 3.0), (2, 5.0), (3, 7.0)], 2)
    [(0.5, 2.0), (2.5, 6.0)]
    """
    if len(points) <= limit:
        return list(points)
    edges = [round(n * len(points) / limit) for n in range(limit + 1)]
    groups = [points[a:b] for a, b in pairwise(edges)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def smooth(points: Sequence[Point], window: int) -> list[Point]:
    """The running mean of y over `window` points, centred; fewer at the ends.

    >>> smooth([(0, 1.0), (1, 2.0), (2, 6.0)], 3)
    [(0, 1.5), (1, 3.0), (2, 4.0)]
    """
    half = window // 2
    total = [0.0]
    for _, y in points:
        total.append(total[-1] + y)
    means = []
    for n, (x, _) in enumerate(points):
        a, b = max(0, n - half), min(len(points), n + half + 1)
        means.append((x, (total[b] - total[a]) / (b - a)))
    return means


@dataclass(frozen=True)
class Scale:
    """Linear map of [low, high] to [0, 100] percent."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self, values: Sequence[float]) -> list[dict]:
        return [{"at": self(v), "text": label(v)} for v in values]


def path(points: Sequence[Point], x: Scale, y: Scale) -> str:
    """An SVG path in percent units, y downwards."""
    return "M" + "L".join(f"{x(px):g} {round(100 - y(py), 2):g}" for px, py in points) if points else ""


def line_chart(raw: Sequence[Point], dots: Sequence[Point] = ()) -> dict:
    """A chart of one measured curve over steps: the raw line, its running mean, and separate dots (validation).

    Values must be finite. y starts at 0, since a loss has a meaning there; x ticks are whole steps.
    """
    ys = sorted(y for _, y in [*raw, *dots])
    top = ys[min(len(ys) - 1, math.ceil(0.995 * len(ys)))]  # one outlier must not flatten the rest
    x_ticks = nice_ticks(min(p[0] for p in raw), max(p[0] for p in raw))
    y_ticks = nice_ticks(0.0, top, 4)
    x, y = Scale(raw[0][0], raw[-1][0] if raw[-1][0] > raw[0][0] else raw[0][0] + 1), Scale(0.0, y_ticks[-1])
    return {
        "raw": path(thin(raw), x, y),
        "mean": path(thin(smooth(raw, max(3, len(raw) // 25))), x, y),
        "dots": [{"x": x(px), "y": round(100 - y(py), 2), "text": f"{py:.3f}"} for px, py in dots],
        "x_ticks": x.ticks([t for t in x_ticks if x.low <= t <= x.high and t == round(t)]),
        "y_ticks": [{**t, "at": round(100 - t["at"], 2)} for t in y.ticks(y_ticks)],
    }
