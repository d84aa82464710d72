"""GLU: CogVLM's connector, a linear layer and then a gated MLP as large as the language model's own.

Source: CogVLM, utils/models/cogvlm_model.py and cogagent_model.py, GLU and ImageMixin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vistune.models.connectors.mlp import draw_linear
from vistune.models.keymap import State, rename


class SwiGLU(nn.Module):
    """down(norm(silu(gate(x)) * up(x))): the MLP of Llama, with a LayerNorm inside where `eps` is given (EVA2-CLIP-L,
    mPLUG-Owl)."""

    def __init__(self, width: int, hidden: int, bias: bool = False, eps: float | None = None) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=bias), nn.Linear(width, hidden, bias=bias)
        self.norm = nn.Identity() if eps is None else nn.LayerNorm(hidden, eps=eps)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)"""
        return self.down(self.norm(F.silu(self.gate(x)) * self.up(x)))


@dataclass(frozen=True)
class GLUConfig:
    channels: int  # C of one feature
    width: int  # D of the language model's embeddings
    hidden: int  # of the gated MLP
    positions: int = 0  # P features with a learned position each, added before anything else (CogAgent); 0: none


class GLU(nn.Module):
    """A learned token begins an image and another ends it; both, and the positions, start at zero."""

    def __init__(self, config: GLUConfig) -> None:
        super().__init__()
        self.config = config
        if config.positions:
            self.positions = nn.Parameter(torch.zeros(config.positions, config.channels))
        self.project = nn.Linear(config.channels, config.width, bias=False)
        self.norm = nn.LayerNorm(config.width)
        self.mlp = SwiGLU(config.width, config.hidden)
        self.begin, self.end = (nn.Parameter(torch.zeros(1, 1, config.width)) for _ in range(2))

    def draw(self) -> None:
        """Initial weights as the authors draw them."""
        draw_linear(self)

    def convert(self, features: Tensor) -> Tensor:
        """(V, P, C) -> (V, P, D)"""
        if self.config.positions:
            features = features + self.positions
        return self.mlp(F.gelu(self.norm(self.project(features))))

    def forward(self, features: Tensor) -> Tensor:
        """(V, P, C) -> (V, 1 + P + 1, D)"""
        begin, end = (token.expand(len(features), -1, -1) for token in (self.begin, self.end))
        return torch.cat([begin, self.convert(features), end], dim=1)


def glu_keys(original: Mapping[str, Tensor]) -> State:
    """Keys of CogVLM and CogAgent below `mixins.eva`, or of their Hugging Face form below `model.vision`, without the
    tower's -> ours."""
    return rename(
        original,
        [
            (r"boi", "begin"),
            (r"eoi", "end"),
            (r"pos_embed", "positions"),
            (r"linear_proj\.linear_proj\.(.+)", r"project.\1"),
            (r"linear_proj\.norm1\.(.+)", r"norm.\1"),
            (r"linear_proj\.gate_proj\.(.+)", r"mlp.gate.\1"),
            (r"linear_proj\.dense_h_to_4h\.(.+)", r"mlp.up.\1"),
            (r"linear_proj\.dense_4h_to_h\.(.+)", r"mlp.down.\1"),
        ],
        "the GLU",
    )
