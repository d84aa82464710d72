"""How much of an epoch each data set makes.

A release joins data sets of very different sizes. As they are, the largest one decides what is learned; drawn in
proportion to a power of their sizes below 1, small ones are read more than once an epoch and large ones in part.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from vistune.errors import VistuneError
from vistune.hashing import shuffled

K = TypeVar("K", bound=Hashable)


def quotas(sizes: Mapping[str, int], alpha: float, caps: Mapping[str, int]) -> dict[str, int]:
    """How many of each data set an epoch reads: together as many as the capped sizes, each in proportion to its capped
    size to the power of alpha. 1: as they are; 0: all alike. Raises VistuneError for a cap on a data set that is not
    there.

    >>> quotas({"a": 900, "b": 100}, 0.5, {})
    {'a': 750, 'b': 250}
    >>> quotas({"a": 900, "b": 100}, 1.0, {"a": 300})
    {'a': 300, 'b': 100}
    """
    for name in caps:
        if name not in sizes:
            raise VistuneError(f"tune.stages: a cap on {name}, but the stage reads {', '.join(sorted(sizes))} only.")
    capped = {name: min(size, caps.get(name, size)) for name, size in sizes.items()}
    weights = {name: size**alpha for name, size in capped.items() if size}
    whole, total = sum(weights.values()), sum(capped.values())
    return {name: round(total * weight / whole) for name, weight in weights.items()}


def draw(
    parts: Mapping[str, Sequence[K]], alpha: float, caps: Mapping[str, int], seed: int, stage: str, epoch: int
) -> list[tuple[K, int]]:
    """An epoch's items in keyed order, each with the number of times that it was drawn before in this epoch. No item
    comes again before all of its data set have come (all that a cap leaves of it, which are others in each epoch)."""
    drawn: list[tuple[K, int]] = []
    if alpha == 1 and not caps:
        drawn = [(item, 0) for some in parts.values() for item in some]
    else:
        wanted = quotas({name: len(some) for name, some in parts.items()}, alpha, caps)
        for name, quota in wanted.items():
            some, most = parts[name], min(len(parts[name]), caps.get(name, len(parts[name])))
            kept = shuffled(some, seed, stage, "cap", name, epoch)[:most] if most < len(some) else some
            for again in range(-(-quota // most)):
                order = shuffled(kept, seed, stage, "draw", name, epoch, again)
                drawn += [(item, again) for item in order[: quota - again * most]]
    return shuffled(drawn, seed, stage, "order", epoch)
