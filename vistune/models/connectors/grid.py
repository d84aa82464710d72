"""GridMLP: the connector of the default family, one visual token per cell of the encoder's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    position_scale: float = 0.15  # share of the position words' embeddings added at the outermost rows and columns
    names: int = 0  # entries of the visual vocabulary; 0: none, cells keep their own direction
    temperature: float = 0.05  # of the softmax over these entries


class GridMLP(nn.Module):
    """One visual token per grid cell: standardise -> Linear -> GELU -> Linear -> a point in word-embedding space.

    Without a visual vocabulary, the output lies where the language model expects words: at the mean word embedding,
    plus a direction of the usual length of a word (both measured on the embedding table). With one (`learn_names`),
    the direction is compared with every known name and the token is the mixture of the names' embeddings under a
    softmax, as Ovis does with a learned table (Lu et al. 2024, "structural embedding alignment"). A name of several
    tokens is spelled along the columns, so that a row of cells reads like text: "fire engine fire engine".
    To either, a learned offset per row and column is added that starts from the words left, right, top and bottom.
    """

    mean: Tensor
    scale: Tensor
    center: Tensor
    length: Tensor
    keys: Tensor
    spelling: Tensor

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
        self.register_buffer("keys", torch.zeros(config.names, config.width))
        self.register_buffer("spelling", torch.zeros(config.names, config.grid, dtype=torch.long))
        self.dropout = nn.Dropout(config.dropout)

    def directions(self, features: Tensor) -> Tensor:
        """features: (..., C) -> unit vectors (..., D): what a cell shows, before centre, length and position."""
        x = (features.to(self.mean.dtype) - self.mean) * self.scale
        x = x.to(self.up.weight.dtype)  # DeepSpeed casts weights and leaves buffers
        return F.normalize(self.down(F.gelu(self.up(self.dropout(x)))).float(), dim=-1)

    def forward(self, features: Tensor, table: Tensor) -> Tensor:
        """features: (I, P, C) with P = grid x grid, row by row; table: the language model's embeddings (K, D)
        -> float32 (I, P, D)."""
        n = self.config.grid
        where = (self.rows[:, None, :] + self.columns[None, :, :]).reshape(n * n, -1)
        directions = self.directions(features)
        if not len(self.keys):
            return self.center + self.length * self.gain * directions + where
        shares = (directions @ self.keys.float().T / self.config.temperature).softmax(-1)
        spelled = table[self.spelling].float()  # (M, n, D): of each name, the token each column spells
        words = torch.einsum("irck,kcd->ircd", shares.unflatten(1, (n, n)), spelled)
        return words.flatten(1, 2) + where

    @torch.no_grad()
    def learn_names(self, keys: Tensor, tokens: Sequence[Sequence[int]]) -> None:
        """Sets the visual vocabulary: unit vectors (M, D) of the names, and the token ids of each."""
        columns = [[ids[c % len(ids)] for c in range(self.config.grid)] for ids in tokens]
        self.keys = keys.float().to(self.center.device)
        self.spelling = torch.tensor(columns, device=self.center.device)
        self.config = replace(self.config, names=len(columns))

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
