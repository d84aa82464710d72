"""Attention over packed samples: each sees itself and the beginning that it shares with others.

A pack is one row of tokens in segments. Attention runs segment by segment, so its cost is the sum over samples and no
mask of the whole row exists; a dense mask of 16 samples costs ten times as much on a CPU. What a segment may see comes
with every call (`segments`), not from a global: recomputation in the backward pass sees its own.

Passing `attention_mask=None` and restarted positions to transformers isolates samples as well, by a dense mask, and
leaks between them without a word when a cache or a mask of ones is given. So this attention is asked for by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "vistune_packed"


class Segment(NamedTuple):
    """Tokens `start` to `end` of a row; before its own, each sees the tokens of the segment `before` (none: -1)."""

    start: int
    end: int
    before: int = -1


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
    for segment in segments:
        q = query[:, :, segment.start : segment.end]
        k, v = (_seen(x, segment, segments) for x in (key, value))
        parts.append(_causal(q, k, v, dropout, scaling))
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _seen(x: Tensor, segment: Segment, segments: Sequence[Segment]) -> Tensor:
    own = x[:, :, segment.start : segment.end]
    if segment.before < 0:
        return own
    before = segments[segment.before]
    return torch.cat([x[:, :, before.start : before.end], own], dim=2)


def _causal(q: Tensor, k: Tensor, v: Tensor, dropout: float, scaling: float | None) -> Tensor:
    """The last token of q sees all of k."""
    grouped = q.shape[1] != k.shape[1]
    if q.shape[2] == k.shape[2]:
        return F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=grouped
        )
    mask: Any = causal_lower_right(q.shape[2], k.shape[2])
    if q.device.type == "cpu":
        mask = mask._materialize(q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling, enable_gqa=grouped)


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
