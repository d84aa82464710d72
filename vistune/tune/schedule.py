"""Learning-rate schedules: factors of the peak rate, pure functions of the step."""

from __future__ import annotations

import math


def cosine(step: int, steps: int, warmup: float, floor: float = 0.0) -> float:
    """Linear warm-up over a share of the steps, then a cosine down to `floor`.

    >>> [round(cosine(s, 10, 0.2), 3) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    rising = max(round(steps * warmup), 1)
    if step < rising:
        return (step + 1) / rising
    along = (step - rising) / max(steps - rising, 1)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * along))
