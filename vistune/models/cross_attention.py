"""Attention from one set of tokens to another: the same module in connectors and in language models.

The resamplers' and mPLUG-Owl's abstractor keep one width; MoAI's compressor and CogAgent's attention to the
high-resolution features narrow it between their projections.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Multi-head attention of queries (..., Q, D) to keys and values (..., P, C).

    channels: C, as wide as the queries unless given; inner: of all heads together, D unless given.
    """

    def __init__(
        self, width: int, heads: int, channels: int | None = None, inner: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        self.heads = heads
        channels, inner = channels or width, inner or width
        self.query = nn.Linear(width, inner, bias=bias)
        self.key, self.value = nn.Linear(channels, inner, bias=bias), nn.Linear(channels, inner, bias=bias)
        self.out = nn.Linear(inner, width, bias=bias)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: bool, broadcastable to (..., H, Q, P), True where a query may look; one that may look nowhere finds
        nothing -> (..., Q, D)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for layer, x in ((self.query, queries), (self.key, keys), (self.value, values))
        )
        q = q.expand(*k.shape[:-2], *q.shape[-2:])
        if mask is None:
            found = F.scaled_dot_product_attention(q, k, v)
        else:
            blind = ~mask.any(-1, keepdim=True)
            found = F.scaled_dot_product_attention(q, k, v, mask | blind).masked_fill(blind, 0)
        return self.out(found.transpose(-2, -3).flatten(-2))
