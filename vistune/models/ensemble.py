"""SPHINX's ensemble: four encoders see every view; three are joined along the channels, one along the sequence.

| encoder | input of a view | features |
|---|---|---|
| CLIP ViT-L/14 | 224 pixels | CLS and 16 x 16 of 1024, behind the last LayerNorm |
| OpenCLIP ConvNeXt-XXL | 256 pixels, nearest; or a larger view | 8 x 8 of 3072, each repeated; their mean as CLS |
| DINOv2-g/14 | 224 pixels, ImageNet's normalisation | CLS and 16 x 16 of 1536 |
| BLIP-2's EVA-g and Q-Former | 224 pixels | 32 queries of 768 |

The light models have neither CLIP nor the Q-Former and give the ConvNeXt 512 pixels. Views share every encoder.
Source: LLaMA2-Accessory, accessory/model/LLM/llama_ens.py, llama_ens5.py, llama_ens5p2.py, llama_ens5_light.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from vistune.errors import VistuneError
from vistune.models.connectors.mlp import draw_linear
from vistune.models.keymap import State, rename
from vistune.models.pixels import CLIP, IMAGENET, Normaliser

CONVNEXT_SIZE = 256  # pixels, where no larger view is given


class LastHidden(nn.Module):
    """A vision model of transformers, such as Dinov2Model, as the function from pixels to its last hidden state."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """(V, 3, height, width) -> (V, 1 + P, C)"""
        return self.model(pixels).last_hidden_state


class EnsembleTower(nn.Module):
    """convnext: pixels -> (V, C, rows, columns); dino, clip: pixels -> (V, 1 + P, C); qformer: pixels -> (V, Q, C)."""

    def __init__(
        self,
        convnext: nn.Module,
        dino: nn.Module,
        clip: nn.Module | None = None,
        qformer: nn.Module | None = None,
        convnext_size: int = CONVNEXT_SIZE,
    ) -> None:
        super().__init__()
        self.convnext_size = convnext_size
        self.convnext, self.dino, self.clip, self.qformer = convnext, dino, clip, qformer

    def forward(self, pixels: Tensor, large: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """pixels: views (V, 3, S, S), normalised for CLIP; large: the same views for the ConvNeXt, where it has its own
        -> features of the joined encoders (V, 1 + P, C), and of the Q-Former (V, Q, C')"""
        if large is None:
            large = F.interpolate(pixels.half(), (self.convnext_size, self.convnext_size)).to(pixels.dtype)  # nearest
        dino = self.dino(renormalised(pixels, CLIP, IMAGENET))
        joined = [with_mean(repeated(self.convnext(large), isqrt(dino.shape[1] - 1))), dino]
        if self.clip is not None:
            joined.insert(0, self.clip(pixels))
        queries = None if self.qformer is None else self.qformer(pixels)
        return torch.cat(joined, dim=-1), queries


def renormalised(x: Tensor, old: Normaliser, new: Normaliser) -> Tensor:
    """x: (..., 3, height, width), normalised by `old` -> by `new`"""
    mean, std = (torch.tensor(c, dtype=x.dtype, device=x.device)[:, None, None] for c in (old.mean, old.std))
    return new.scale(x * std + mean)


def repeated(features: Tensor, side: int) -> Tensor:
    """(V, C, S, S) -> (V, side * side, C), each feature as often as the larger grid needs it. Raises VistuneError where
    the grid is not a multiple."""
    rows, columns = features.shape[2:]
    if rows != columns or side % rows:
        raise VistuneError(f"features of {rows}x{columns} cannot be repeated to a grid of {side}x{side}.")
    times = side // rows
    grid = features.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)
    return grid.flatten(2).transpose(1, 2)


def with_mean(features: Tensor) -> Tensor:
    """(V, P, C) -> (V, 1 + P, C), their mean first, where other encoders have CLS."""
    return torch.cat([features.mean(1, keepdim=True), features], dim=1)


def halved(features: Tensor) -> Tensor:
    """(V, 1 + P, C) -> (V, 1 + P / 4, C): the grid behind CLS at half of its side, as SPHINX's p2 does to all views but
    the overview."""
    side = isqrt(features.shape[1] - 1)
    grid = features[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    grid = F.interpolate(grid.float(), scale_factor=0.5, mode="bilinear").to(features.dtype)
    return torch.cat([features[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


@dataclass(frozen=True)
class EnsembleConfig:
    channels: int  # of the joined encoders together
    width: int  # D of the language model's embeddings
    query_channels: int = 0  # of the Q-Former; 0: none


class EnsembleConnector(nn.Module):
    """A linear layer and a LayerNorm for each of the two streams; learned tokens begin and end a view."""

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__()
        width = config.width
        self.project = nn.Sequential(nn.Linear(config.channels, width), nn.LayerNorm(width))
        if config.query_channels:
            self.project_queries = nn.Sequential(nn.Linear(config.query_channels, width), nn.LayerNorm(width))
        self.begin, self.end = (nn.Parameter(torch.rand(1, 1, width)) for _ in range(2))

    def draw(self) -> None:
        """Initial weights as the authors draw them."""
        draw_linear(self)

    def forward(self, features: Tensor, queries: Tensor | None = None) -> Tensor:
        """features: (V, 1 + P, C), queries: (V, Q, C') -> (V, 1 + Q + 1 + P + 1, D)"""
        parts = [self.project(features)]
        if queries is not None:
            parts.insert(0, self.project_queries(queries))
        begin, end = (token.expand(len(features), -1, -1) for token in (self.begin, self.end))
        return torch.cat([begin, *parts, end], dim=1)


def ensemble_keys(original: Mapping[str, Tensor]) -> State:
    """SPHINX's connector, names below `llma` -> ours. The encoders' are theirs."""
    return rename(
        original,
        [
            (r"start_img", "begin"),
            (r"end_img", "end"),
            (r"visual_proj\.([01]\..+)", r"project.\1"),
            (r"qformer_proj\.([01]\..+)", r"project_queries.\1"),
        ],
        "SPHINX's connector",
    )
