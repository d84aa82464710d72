"""Attention over packed samples: each sees itself and the beginning that it shares with others.

A pack is one row of tokens in segments that do not see each other. Attention runs segment by segment, so its cost is
the sum over samples and no mask of the whole row exists; that would cost four times as much for the demo's packs, ten
times for longer ones. What a segment may see comes with every call (`segments`), not from a global: recomputation in
the backward pass sees its own.

Passing `attention_mask=None` and restarted positions to transformers isolates samples as well, by a dense mask, and
leaks between them without a word when a cache or a mask of ones is given. So this attention is asked for by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "vistune_packed"


class Segment(NamedTuple):
    """Tokens `start` to `end` of a row: one sample, or several with their common beginning. mask: bool (n, n) of its n
    tokens, True where one may look; None: causal."""

    start: int
    end: int
    mask: Tensor | None = None


def branches(common: int, lengths: Sequence[int]) -> Tensor:
    """The mask of a beginning of `common` tokens and its continuations, one behind the other: bool (n, n).

    >>> branches(1, [1, 1]).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    size = common + sum(lengths)
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[:, :common] = True
    at = common
    for length in lengths:
        mask[at : at + length, at : at + length] = True
        at += length
    return mask.tril()


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: Sequence[Segment] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query: (1, H, T, d); key, value: (1, G, T, d), a group of heads sharing each -> (1, T, H, d). Without `segments`
    (padded batches, generation) transformers' own attention."""
    if segments is None:
        made, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return made, None
    parts = []
    for start, end, mask in segments:
        q, k, v = (x[:, :, start:end] for x in (query, key, value))
        grouped = q.shape[1] != k.shape[1]
        part = F.scaled_dot_product_attention(q, k, v, mask, dropout, mask is None, scale=scaling, enable_gqa=grouped)
        parts.append(part)
    return torch.cat(parts, dim=2).transpose(1, 2), None


def no_mask() -> Tensor:
    """What packed rows give as attention_mask: transformers takes a mask of four dimensions as it is, and so makes
    none of its own."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool)


def use(model: Any) -> None:
    """Makes the language model of `model` attend through this module."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)  # padded batches have transformers' own mask
    text = model.get_decoder() if hasattr(model, "get_decoder") else model
    text.set_attn_implementation(NAME)
