"""Perceiver: latents that read features, and one another, through several layers.

MoAI's compressor: the evidence of its helper models (word embeddings of what they say, features of a coloured map)
becomes 64 latents. Source: MoAI, moai/arch/expert_module.py, PerceiverResampler (after Flamingo's).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vistune.models.connectors.mlp import draw_linear
from vistune.models.cross_attention import CrossAttention
from vistune.models.keymap import State, rename, split_rows


@dataclass(frozen=True)
class PerceiverConfig:
    width: int  # D of features and latents
    latents: int = 64
    depth: int = 4
    heads: int = 4
    head_width: int = 64
    expansion: int = 1  # of the MLPs


class PerceiverLayer(GradientCheckpointingLayer):
    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.expansion
        self.feature_norm, self.latent_norm, self.mlp_norm = (nn.LayerNorm(width) for _ in range(3))
        self.attention = CrossAttention(width, config.heads, inner=config.heads * config.head_width, bias=False)
        self.up, self.down = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, latents: Tensor, features: Tensor) -> Tensor:
        """latents: (V, Q, D), features: (V, P, D) -> (V, Q, D)"""
        queries = self.latent_norm(latents)
        seen = torch.cat([self.feature_norm(features), queries], dim=1)
        latents = latents + self.attention(queries, seen, seen)
        return latents + self.down(F.gelu(self.up(self.mlp_norm(latents))))


class Perceiver(nn.Module):
    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(config.latents, config.width))
        self.layers = nn.ModuleList(PerceiverLayer(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def draw(self) -> None:
        """Initial weights as the authors draw them."""
        draw_linear(self)

    def forward(self, features: Tensor) -> Tensor:
        """(V, P, D) -> (V, Q, D)"""
        latents = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            latents = layer(latents, features)
        return self.norm(latents)


def perceiver_keys(original: Mapping[str, Tensor]) -> State:
    """Keys below `moai_compressor` -> ours."""
    attention = r"layers\.(\d+)\.0\."
    mlp = r"layers\.(\d+)\.1\."
    state = rename(
        original,
        [
            (r"latents|norm\.(?:weight|bias)", lambda match: match[0]),
            (attention + r"norm_media\.(.+)", r"layers.\1.feature_norm.\2"),
            (attention + r"norm_latents\.(.+)", r"layers.\1.latent_norm.\2"),
            (attention + r"to_q\.(.+)", r"layers.\1.attention.query.\2"),
            (attention + r"to_kv\.weight", r"layers.\1.attention.key_value.weight"),
            (attention + r"to_out\.(.+)", r"layers.\1.attention.out.\2"),
            (mlp + r"0\.(.+)", r"layers.\1.mlp_norm.\2"),
            (mlp + r"1\.weight", r"layers.\1.up.weight"),
            (mlp + r"3\.weight", r"layers.\1.down.weight"),
        ],
        "the compressor",
    )
    split_rows(state, "key_value", ("key", "value"))
    return state
