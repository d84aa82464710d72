"""Several random choices from one keyed hash: a hash costs microseconds, and a sample needs a handful of choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

BITS = 512
"""Of one hash (BLAKE2b's own size): enough for the choices that one task makes about one image."""

SPARE_BITS = 24
"""A number below n is taken while at least n * 2**24 values are left, so no value is favoured by more than 2**-24."""

MOST = 1 << (BITS - SPARE_BITS)
"""So many values can be told apart by the numbers drawn from one hash."""

SPENT = MOST + 1

SEPARATOR = "\0"
"""No id holds it, so different keys are different texts."""


class Draws:
    """A stream of numbers that depends only on the seed and the key.

    >>> a, b = Draws(0, "img7", "presence"), Draws(0, "img7", "presence")
    >>> [a.below(6) for _ in range(9)] == [b.below(6) for _ in range(9)]
    True
    """

    __slots__ = ("_hashes", "_key", "_taken", "_value")

    def __init__(self, seed: int, *key: str) -> None:
        self._key = f"{seed}\0{SEPARATOR.join(key)}"
        self._hashes = self._value = 0
        self._taken = SPENT  # the product of the bounds so far

    def below(self, bound: int) -> int:
        """An integer from 0 to `bound` - 1. `bound` is at most 2**40."""
        if bound == 1:
            return 0  # uses nothing up: the numbers after it are the same
        taken, value = self._taken * bound, self._value
        if taken > MOST:
            value, taken = int.from_bytes(blake2b(f"{self._key}\0{self._hashes}".encode()).digest(), "big"), bound
            self._hashes += 1
        self._taken = taken
        self._value, drawn = divmod(value, bound)
        return drawn

    def order(self, items: Sequence[T]) -> Iterator[T]:
        """All of `items` in random order; what is not asked for is not drawn."""
        rest = list(items)
        while rest:
            at = self.below(len(rest))
            yield rest[at]
            rest[at] = rest[-1]
            rest.pop()

    def pick(self, items: Sequence[T], count: int) -> list[T]:
        """Up to `count` of `items`, each at most once, in random order."""
        rest, picked = list(items), []
        for _ in range(min(count, len(rest))):
            at = self.below(len(rest))
            picked.append(rest[at])
            rest[at] = rest[-1]
            rest.pop()
        return picked
