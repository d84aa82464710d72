"""EVA2-CLIP-L at high resolution, the second encoder of CogAgent; transformers has no such model.

Width 1024, 16 heads, rotary positions over the grid beside a learned table, LayerNorms within attention and MLP, a
gated MLP of 2730. The authors build 24 blocks and run 23; the last, the final LayerNorm and the head are never used and
are not built here. 1120 pixels make 80 x 80 features, each with a learned position on top, which begins at zero.
Sources: CogVLM, utils/models/eva_clip_L_hf.py, cogagent_model.py (ExternalVisionModel); EVA-02 paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vistune.errors import VistuneError
from vistune.models.connectors.glu import SwiGLU
from vistune.models.keymap import State, rename


@dataclass(frozen=True)
class Eva2Config:
    image_size: int = 1120  # pixels, square
    width: int = 1024
    depth: int = 24  # of the published model, whose last block does not run
    heads: int = 16
    hidden: int = 2730  # of the MLPs: width * 2.6667, rounded down
    patch: int = 14
    trained_grid: int = 16  # features per side that the rotary positions were trained on

    @property
    def grid(self) -> int:
        return self.image_size // self.patch


class Eva2Block(GradientCheckpointingLayer):
    def __init__(self, config: Eva2Config) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm1, self.norm2, self.inner_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)
        self.mlp = SwiGLU(width, config.hidden, bias=True, eps=1e-6)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """x: (V, 1 + P, C); rotation: cosines and sines (P, C / H) -> (V, 1 + P, C)"""
        y = self.norm1(x)
        layers = (self.query, self.key, self.value)
        q, k, v = (layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in layers)
        y = F.scaled_dot_product_attention(rotated(q, *rotation), rotated(k, *rotation), v)
        x = x + self.out(self.inner_norm(y.transpose(1, 2).flatten(2)))
        return x + self.mlp(self.norm2(x))


class Eva2Tower(nn.Module):
    def __init__(self, config: Eva2Config) -> None:
        super().__init__()
        self.config = config
        self.patches = nn.Conv2d(3, config.width, config.patch, stride=config.patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, config.grid**2 + 1, config.width))
        self.blocks = nn.ModuleList(Eva2Block(config) for _ in range(config.depth - 1))
        self.output_positions = nn.Parameter(torch.zeros(config.grid**2, config.width))
        nn.init.trunc_normal_(self.cls, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels: (V, 3, S, S), normalised -> (V, P, C), without the learned positions of the output"""
        size = self.config.image_size
        if pixels.shape[2:] != (size, size):
            raise VistuneError(f"the encoder takes {size}x{size} pixels; got {pixels.shape[3]}x{pixels.shape[2]}.")
        x = self.patches(pixels.to(self.patches.weight.dtype)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.positions
        head = self.config.width // self.config.heads
        angles = grid_angles(self.config.grid, self.config.trained_grid, head, x.device)
        rotation = (angles.cos().to(x.dtype), angles.sin().to(x.dtype))
        for block in self.blocks:
            x = block(x, rotation)
        return x[:, 1:]

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (V, 3, S, S), normalised -> (V, P, C)"""
        return self.encode(pixels) + self.output_positions


def grid_angles(grid: int, trained: int, width: int, device: torch.device | None = None) -> Tensor:
    """Rotary angles of a square grid, float32 (P, D): half of the channels turn with the row, half with the column, in
    pairs, by positions squeezed into the grid that was trained on.

    >>> grid_angles(2, 1, 4)[:, 2].tolist()
    [0.0, 0.5, 0.0, 0.5]
    """
    frequencies = 1.0 / 10000 ** (torch.arange(0, width // 2, 2, dtype=torch.float32, device=device) / (width // 2))
    at = torch.arange(grid, dtype=torch.float32, device=device) / grid * trained
    line = (at[:, None] * frequencies).repeat_interleave(2, dim=-1)
    down, across = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([down, across], dim=-1).flatten(0, 1)


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """x: (V, H, 1 + P, D), neighbouring channels turned as pairs; CLS, which comes first, stays."""
    cls, patches = x[:, :, :1], x[:, :, 1:]
    even, odd = patches.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-odd, even], dim=-1).flatten(-2)
    return torch.cat([cls, patches * cosines + turned * sines], dim=2)


def eva2_l_keys(original: Mapping[str, Tensor], config: Eva2Config) -> State:
    """CogAgent's names below `mixins.encoder`, or of its Hugging Face form below `model.cross_vision` -> ours, without
    what never runs and the rotary tables."""
    top = r"vit\.model\."
    block, ours = top + r"blocks\.(\d+)\.", r"blocks.\1."
    mlp = {"w1": "gate", "w2": "up", "ffn_ln": "norm", "w3": "down"}
    return rename(
        original,
        [
            (top + rf"blocks\.{config.depth - 1}\..+|" + top + r"(?:norm|head)\..+", None),
            (top + r"(?:blocks\.\d+\.attn\.)?rope\..+", None),
            (r"pos_embed", "output_positions"),
            (top + r"cls_token", "cls"),
            (top + r"pos_embed", "positions"),
            (top + r"patch_embed\.proj\.(.+)", r"patches.\1"),
            (block + r"norm([12])\.(.+)", ours + r"norm\2.\3"),
            (block + r"attn\.q_bias", ours + "query.bias"),
            (block + r"attn\.v_bias", ours + "value.bias"),
            (block + r"attn\.q_proj\.(.+)", ours + r"query.\2"),
            (block + r"attn\.k_proj\.(.+)", ours + r"key.\2"),
            (block + r"attn\.v_proj\.(.+)", ours + r"value.\2"),
            (block + r"attn\.inner_attn_ln\.(.+)", ours + r"inner_norm.\2"),
            (block + r"attn\.proj\.(.+)", ours + r"out.\2"),
            (block + r"mlp\.(w[123]|ffn_ln)\.(.+)", lambda match: f"blocks.{match[1]}.mlp.{mlp[match[2]]}.{match[3]}"),
        ],
        "EVA2-CLIP-L",
    )
