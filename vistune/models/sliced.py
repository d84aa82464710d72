"""Towers and connectors of pictures in slices of their own shape: what LLaVA-UHD and MiniCPM-V share.

Views differ in size, within a picture and between pictures. Those of one size go through the encoder, and through the
resampler, as one batch, so nothing is padded and no picture's tokens depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from torch import Tensor, nn

from vistune.models.connectors.resampler import Resampler
from vistune.models.encoders.features import by_shape
from vistune.models.families.base import Picture
from vistune.models.layout import visual_tokens

Maps = tuple[Tensor, ...]  # (rows, columns, C) of each view of a picture


class SlicedTower(nn.Module):
    """encoder: (V, 3, height, width) -> (V, P, C), for any height and width in whole patches."""

    encoder: Any

    def __init__(self, encoder: Any, patch: int) -> None:
        super().__init__()
        self.encoder, self.patch = encoder, patch

    def forward(self, pictures: Sequence[Picture]) -> list[Maps]:
        found = by_shape([view for picture in pictures for view in picture.views], self.encode)
        return regrouped(found, pictures)

    def encode(self, views: Tensor) -> Tensor:
        """(V, 3, height, width) -> (V, rows, columns, C)"""
        return self.encoder(views).unflatten(1, tuple(side // self.patch for side in views.shape[2:]))


class SlicedConnector(nn.Module):
    """Each view's tokens by one resampler, in the order of the picture's layout."""

    def __init__(self, resampler: Resampler) -> None:
        super().__init__()
        self.resampler = resampler

    def forward(self, features: Sequence[Maps], pictures: Sequence[Picture], table: Tensor) -> list[Tensor]:
        found = by_shape([view for maps in features for view in maps], self.resample)
        views = regrouped(found, pictures)
        return [visual_tokens(p.plan.layout, tokens) for p, tokens in zip(pictures, views, strict=True)]

    def resample(self, maps: Tensor) -> Tensor:
        """(V, rows, columns, C) -> (V, Q, D)"""
        return self.resampler(maps.flatten(1, 2), (maps.shape[1], maps.shape[2]))


def regrouped(views: Iterable[Tensor], pictures: Sequence[Picture]) -> list[Maps]:
    """The views of all pictures, by picture."""
    rest = iter(views)
    return [tuple(islice(rest, len(picture.views))) for picture in pictures]
