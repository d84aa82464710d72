"""MLP: the plain connector, one visual token in and one out, or several neighbours merged into one beforehand.

LLaVA's linear layer (depth 1) and its mlp2x_gelu, ViP-LLaVA's with a LayerNorm first, InternVL's with pixel unshuffle
and LayerNorm first, MiniGPT-v2's linear layer over runs of four tokens.
Sources: LLaVA, multimodal_projector/builder.py; InternVL, modeling_internvl_chat.py, mlp1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vistune.errors import VistuneError
from vistune.models.keymap import State, rename


@dataclass(frozen=True)
class MLPConfig:
    channels: int  # C of one feature
    width: int  # D of the language model's embeddings
    depth: int = 2  # linear layers, GELU between them
    norm: bool = False  # a LayerNorm over the (merged) channels first
    merge: int = 1  # features that become one visual token
    order: Literal["square", "transposed", "row"] = "square"  # which: see `merged`


class MLP(nn.Module):
    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        inputs = config.channels * config.merge
        self.norm = nn.LayerNorm(inputs) if config.norm else nn.Identity()
        widths = [inputs] + [config.width] * config.depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def draw(self) -> None:
        """Initial weights as the authors draw them."""
        draw_linear(self)

    def forward(self, features: Tensor) -> Tensor:
        """(V, P, C), or (..., C) where nothing is merged -> (V, P / merge, D)"""
        if self.config.merge > 1:
            features = merged(features, self.config.merge, self.config.order)
        x = self.norm(features)
        for n, layer in enumerate(self.layers):
            x = layer(F.gelu(x) if n else x)
        return x


def draw_linear(module: nn.Module) -> None:
    """Initial weights of all linear layers as torch draws them; transformers draws others."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def merged(features: Tensor, merge: int, order: str = "square") -> Tensor:
    """(V, P, C) of a square grid, row by row -> (V, P / merge, merge * C).

    - square: neighbours of a square block, by pixel unshuffle (InternVL's v2).
    - transposed: the same, tokens column by column (InternVL's v1, which never swapped the axes back).
    - row: runs of consecutive tokens, which lie beside one another in a row (MiniGPT-v2).
    """
    if order == "row":
        return features.unflatten(1, (-1, merge)).flatten(2)
    side = isqrt(features.shape[1])
    block = isqrt(merge)
    if side * side != features.shape[1] or block * block != merge or side % block:
        raise VistuneError(f"{features.shape[1]} features do not form a square of blocks of {merge}.")
    grid = unshuffled(features.unflatten(1, (side, side)), block)
    return (grid.transpose(1, 2) if order == "transposed" else grid).flatten(1, 2)


def unshuffled(grid: Tensor, block: int) -> Tensor:
    """Space to depth: (V, R, Q, C) -> (V, R / block, Q / block, block * block * C), channels ordered by row within the
    block, then column, then C."""
    grid = grid.unflatten(2, (-1, block)).unflatten(1, (-1, block))  # V, R/b, b, Q/b, b, C
    return grid.transpose(2, 3).flatten(3)


def llava_mlp_keys(original: Mapping[str, Tensor]) -> State:
    """Keys below `mm_projector` of LLaVA, whether one linear layer or several with GELUs between, and of ViP-LLaVA."""
    return rename(
        original,
        [
            (r"(weight|bias)", r"layers.0.\1"),
            (r"clip_layernorm\.(weight|bias)", r"norm.\1"),
            (
                r"(?:final_linear\.)?(\d*[02468])\.(weight|bias)",
                lambda match: f"layers.{int(match[1]) // 2}.{match[2]}",
            ),
        ],
        "the MLP",
    )


def internvl_mlp_keys(original: Mapping[str, Tensor]) -> State:
    """Keys below `mlp1` of InternVL: LayerNorm, linear layer, GELU, linear layer."""
    return rename(
        original,
        [
            (r"0\.(weight|bias)", r"norm.\1"),
            (r"1\.(weight|bias)", r"layers.0.\1"),
            (r"3\.(weight|bias)", r"layers.1.\1"),
        ],
        "the MLP",
    )
