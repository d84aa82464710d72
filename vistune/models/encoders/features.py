"""Which of a vision transformer's hidden states become features, for every encoder of blocks and an optional CLS token.

Hidden states are counted as transformers counts them: 0 is the input of the first block, n the output of the n-th, and
negative ones count from the last block, whether or not the tower keeps blocks that no selected state needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vistune.errors import VistuneError


@dataclass(frozen=True)
class Selection:
    layers: tuple[int, ...] = (-1,)  # several are concatenated along the channels, in this order
    cls: Literal["drop", "keep", "never"] = "drop"  # never: it does not enter the blocks either
    norm: bool = False  # the encoder's last LayerNorm on top

    def states(self, blocks: int) -> tuple[int, ...]:
        """The layers counted from 0, for an encoder of so many blocks. Raises VistuneError where it has too few.

        >>> Selection((-2, 6)).states(24)
        (23, 6)
        """
        found = tuple(layer if layer >= 0 else blocks + 1 + layer for layer in self.layers)
        if not found or min(found) < 0 or max(found) > blocks:
            raise VistuneError(f"hidden states {list(self.layers)} of an encoder with {blocks} blocks do not exist.")
        return found


def run_blocks(
    hidden: Tensor,
    blocks: Iterable[Callable[[Tensor], Tensor]],
    states: tuple[int, ...],
    norm: nn.Module | None = None,
    between: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
) -> Tensor:
    """hidden: (V, P, C), with CLS first if there is one -> the selected states, concatenated (V, P, len(states) * C).

    No block runs beyond the last state selected. `between`: n -> what to do with the output of the n-th block before it
    goes on (fusion with another encoder).
    """
    found = {0: hidden}
    for n, block in zip(range(1, max(states) + 1), blocks, strict=False):
        hidden = block(hidden)
        if between and n in between:
            hidden = between[n](hidden)
        if n in states:
            found[n] = hidden
    chosen = [found[n] if norm is None else norm(found[n]) for n in states]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=-1)


def by_shape(views: Sequence[Tensor], encode: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """`encode` of each view, in order, where views differ in shape: those of one shape go through it as one batch."""
    alike: dict[torch.Size, list[int]] = {}
    for n, view in enumerate(views):
        alike.setdefault(view.shape, []).append(n)
    found: dict[int, Tensor] = {}
    for members in alike.values():
        found |= zip(members, encode(torch.stack([views[n] for n in members])), strict=True)
    return [found[n] for n in range(len(views))]
