"""Abstractor: mPLUG-Owl's connector, queries that read the features through several layers, and a token that ends them.

Every layer's residual starts from the queries behind their LayerNorm, not from what entered it. mPLUG-Owl2 adds fixed
positions to queries and keys in each layer, mPLUG-Owl none.
Sources: mPLUG-Owl, mplug_owl/modeling_mplug_owl.py; mPLUG-Owl2, mplug_owl2/model/visual_encoder.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vistune.models.connectors.glu import SwiGLU
from vistune.models.cross_attention import CrossAttention
from vistune.models.keymap import State, rename
from vistune.models.position_tables import sincos, sincos_line


@dataclass(frozen=True)
class AbstractorConfig:
    channels: int  # C of features and queries
    width: int  # D of the language model's embeddings
    queries: int = 64
    depth: int = 6
    heads: int = 16
    hidden: int = 2816  # of the MLPs; 4096 in the first published mPLUG-Owl
    eps: float = 1e-6  # of the LayerNorm within the MLPs; the others have 1e-5
    grid: int = 0  # features per side, whose positions are added in every layer; 0: no positions
    cls: bool = True  # the first feature is CLS, which has no position


class AbstractorLayer(GradientCheckpointingLayer):
    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        width = config.channels
        self.query_norm, self.feature_norm, self.mlp_norm = (nn.LayerNorm(width) for _ in range(3))
        self.attention = CrossAttention(width, config.heads)
        self.mlp = SwiGLU(width, config.hidden, bias=True, eps=config.eps)

    def forward(self, queries: Tensor, features: Tensor, positions: Tensor | None = None) -> Tensor:
        """queries: (V, Q, C), features: (V, P, C), positions: (Q + P, C) -> (V, Q, C)"""
        x = self.query_norm(queries)
        seen = torch.cat([x, self.feature_norm(features)], dim=1)
        placed, keys = (x, seen) if positions is None else (x + positions[: x.shape[1]], seen + positions)
        x = x + self.attention(placed, keys, seen)
        return x + self.mlp(self.mlp_norm(x))


class Abstractor(nn.Module):
    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.config = config
        self.queries = nn.Parameter(torch.randn(1, config.queries, config.channels))
        self.layers = nn.ModuleList(AbstractorLayer(config) for _ in range(config.depth))
        self.project = nn.Linear(config.channels, config.width)
        self.end = nn.Parameter(torch.randn(1, 1, config.width))
        nn.init.trunc_normal_(self.end, std=0.02)

    def positions(self, like: Tensor) -> Tensor | None:
        """Of the queries, in a line; of CLS, none; of the patches, on their grid: (Q + P, C)."""
        if not self.config.grid:
            return None
        side, width = self.config.grid, self.config.channels
        grid = sincos(side, side, width, like.device)
        line = sincos_line(self.config.queries, width, like.device)
        return torch.cat([line, grid.new_zeros(int(self.config.cls), width), grid]).to(like.dtype)

    def read(self, features: Tensor) -> Tensor:
        """features: (V, P, C) -> what the queries have read, (V, Q, C)"""
        queries = self.queries.expand(len(features), -1, -1).to(features.dtype)
        positions = self.positions(features)
        for layer in self.layers:
            queries = layer(queries, features, positions)
        return queries

    def forward(self, features: Tensor) -> Tensor:
        """features: (V, P, C) -> (V, Q + 1, D)"""
        return torch.cat([self.project(self.read(features)), self.end.expand(len(features), -1, -1)], dim=1)


def abstractor_keys(original: Mapping[str, Tensor]) -> State:
    """mPLUG-Owl's `query_tokens` and `abstractor.*`, or mPLUG-Owl2's `model.visual_abstractor.*` -> ours. The tables of
    positions are constants and left out."""
    top = r"(?:abstractor|model\.visual_abstractor)\."
    layer, ours = top + r"encoder\.layers\.(\d+)\.crossattention\.", r"layers.\1."
    return rename(
        original,
        [
            (r"query_tokens|" + top + "query_embeds", "queries"),
            (top + "vit_eos", "end"),
            (top + r"visual_fc\.(.+)", r"project.\1"),
            (layer + r"attention\.[qk]_pos_embed", None),
            (layer + r"attention\.(query|key|value)\.(.+)", ours + r"attention.\2.\3"),
            (layer + r"output\.out_proj\.(.+)", ours + r"attention.out.\2"),
            (layer + r"norm1\.(.+)", ours + r"query_norm.\2"),
            (layer + r"normk\.(.+)", ours + r"feature_norm.\2"),
            (layer + r"output\.norm2\.(.+)", ours + r"mlp_norm.\2"),
            (layer + r"output\.mlp\.w1\.(.+)", ours + r"mlp.gate.\2"),
            (layer + r"output\.mlp\.w3\.(.+)", ours + r"mlp.up.\2"),
            (layer + r"output\.mlp\.w2\.(.+)", ours + r"mlp.down.\2"),
            (layer + r"output\.mlp\.ffn_ln\.(.+)", ours + r"mlp.norm.\2"),
        ],
        "the abstractor",
    )
