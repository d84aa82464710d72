"""Connectors: from a vision encoder's features to the language model's embedding space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class GridMLPConfig:
    channels: int  # of the vision features
    hidden: int
    width: int  # of the language model's embeddings
    grid: int  # cells per side
    dropout: float = 0.4  # of input channels, while training
    position_scale: float = 0.5  # share of the position words' embeddings added at the outermost rows and columns


class GridMLP(nn.Module):
    """One visual token per grid cell: standardise -> Linear -> GELU -> Linear -> a point in word-embedding space.

    The output is placed where the language model expects words: at the mean word embedding, plus a direction of
    the usual length of a word (both measured on the embedding table), plus a learned offset per row and column
    that starts from the words "left", "right", "top" and "bottom".
    """

    mean: Tensor
    scale: Tensor
    center: Tensor
    length: Tensor

    def __init__(self, config: GridMLPConfig) -> None:
        super().__init__()
        self.config = config
        self.up = nn.Linear(config.channels, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.gain = nn.Parameter(torch.ones(config.width))
        self.rows = nn.Parameter(torch.zeros(config.grid, config.width))
        self.columns = nn.Parameter(torch.zeros(config.grid, config.width))
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("scale", torch.ones(config.channels))
        self.register_buffer("center", torch.zeros(config.width))
        self.register_buffer("length", torch.ones(()))
        self.dropout = nn.Dropout(config.dropout)

    def directions(self, features: Tensor) -> Tensor:
        """features: (..., C) -> unit vectors (..., D): what a cell shows, before centre, length and position."""
        x = (features.to(self.up.weight.dtype) - self.mean) * self.scale
        return F.normalize(self.down(F.gelu(self.up(self.dropout(x)))).float(), dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """features: (I, P, C) with P = grid x grid, row by row -> float32 (I, P, D)."""
        n = self.config.grid
        where = (self.rows[:, None, :] + self.columns[None, :, :]).reshape(n * n, -1)
        return self.center + self.length * self.gain * self.directions(features) + where

    @torch.no_grad()
    def place(self, table: Tensor, sides: dict[str, Tensor]) -> None:
        """Sets centre, length and the position offsets from the language model's embedding table (K, D) and the
        embeddings (D,) of the words left, right, top, bottom."""
        table = table.float()
        self.center.copy_(table.mean(0))
        self.length.copy_((table - self.center).norm(dim=-1).mean())
        t = torch.linspace(0, 1, self.config.grid)[:, None]
        scale = self.config.position_scale
        self.rows.copy_(scale * ((1 - t) * (sides["top"] - self.center) + t * (sides["bottom"] - self.center)))
        self.columns.copy_(scale * ((1 - t) * (sides["left"] - self.center) + t * (sides["right"] - self.center)))

    @torch.no_grad()
    def standardise(self, features: Tensor) -> None:
        """Measures mean and scale per channel on (N, C) features of the training images."""
        features = features.float()
        self.mean.copy_(features.mean(0))
        self.scale.copy_(1.0 / (features.std(0) + 0.05))
