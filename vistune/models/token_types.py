"""What each token of a sequence is to a model that treats visual tokens apart, and the positions that follow.

CogVLM and CogAgent (THUDM/CogVLM utils/utils/language.py): an image is one token that begins it, its patches, and one
that ends it. All three are embedded by the vision side; the patches and the beginning go through the visual expert, the
end through the language model; and all patches of an image share one position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class TokenTypes:
    """`images` are the token ranges of images, their beginnings and ends included. Masks are int 0 or 1, (T,)."""

    length: int
    images: tuple[tuple[int, int], ...]

    @cached_property
    def embedded(self) -> list[int]:
        return self._mask([(start, end) for start, end in self.images])

    @cached_property
    def expert(self) -> list[int]:
        return self._mask([(start, end - 1) for start, end in self.images])

    @cached_property
    def patches(self) -> list[int]:
        return self._mask([(start + 1, end - 1) for start, end in self.images])

    @cached_property
    def positions(self) -> list[int]:
        """int (T,).

        >>> TokenTypes(8, ((1, 6),)).positions
        [0, 1, 2, 2, 2, 3, 4, 5]
        """
        found, at = [], -1
        for t, patch in enumerate(self.patches):
            at += not (patch and t and self.patches[t - 1])
            found.append(at)
        return found

    def _mask(self, ranges: Sequence[tuple[int, int]]) -> list[int]:
        mask = [0] * self.length
        for start, end in ranges:
            mask[start:end] = [1] * (end - start)
        return mask
