"""Several random choices from one keyed hash: a hash costs microseconds, and a sample needs a handful of choices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

BITS = 512
"""Of one hash: enough for the choices that one task makes about one image."""

SPARE_BITS = 24
"""A number below n is taken while at least n * 2**24 values are left, so no value is favoured by more than 2**-24."""


class Draws:
    """A stream of numbers that depends only on the seed and the key.

    >>> a, b = Draws(0, "img7", "presence"), Draws(0, "img7", "presence")
    >>> [a.below(6) for _ in range(9)] == [b.below(6) for _ in range(9)]
    True
    """

    __slots__ = ("_hashes", "_key", "_room", "_value")

    def __init__(self, seed: int, *key: str) -> None:
        # No id holds a NUL character, so different keys are different texts.
        self._key = "\0".join((str(seed), *key))
        self._hashes, self._value, self._room = 0, 0, 0

    def below(self, bound: int) -> int:
        """An integer from 0 to `bound` - 1. `bound` is at most 2**40."""
        if self._room < bound << SPARE_BITS:
            digest = hashlib.blake2b(f"{self._key}\0{self._hashes}".encode(), digest_size=BITS // 8).digest()
            self._value, self._room = int.from_bytes(digest, "big"), 1 << BITS
            self._hashes += 1
        self._value, drawn = divmod(self._value, bound)
        self._room //= bound
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
