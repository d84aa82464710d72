"""Fusion of two encoders that see one picture at two resolutions: LLaVA-HR's mixture of resolutions, and Mini-Gemini's
patch information mining.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vistune.errors import VistuneError
from vistune.models.encoders.clip import ClipTower
from vistune.models.encoders.convnext import ConvNextTower
from vistune.models.keymap import State, rename


class ResolutionAdapter(nn.Module):
    """MR-adapter: adds to the low-resolution features a gated share of the high-resolution ones, between two blocks of
    the low-resolution encoder. The gate is one number per picture; at the start both branches add nothing.
    Source: LLaVA-HR paper, section 3.3; multipath_encoder_wapper.py, S2FStitchAlignModuleV2."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.high_in, self.high_out = nn.Conv2d(high, high, 1), nn.Conv2d(high, low, 1)
        self.low_in, self.low_out = nn.Conv2d(low, low, 7, padding=3, groups=low), nn.Conv2d(low, low, 1)
        self.gate = nn.ModuleList([nn.Linear(2 * low, low // 2), nn.Linear(low // 2, 1)])
        self.draw()

    def draw(self) -> None:
        """Initial weights as the authors draw them."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
            elif isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for layer in (self.high_in, self.low_in):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.high_out, self.low_out):
            nn.init.zeros_(layer.weight)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """low: (I, P, C) of a square grid; high: (I, C', rows, columns) -> (I, P, C)"""
        side = isqrt(low.shape[1])
        high = regridded(self.high_out(F.gelu(self.high_in(high))), side).flatten(2).transpose(1, 2)
        grid = low.transpose(1, 2).unflatten(2, (side, side))
        low = low + self.low_out(F.gelu(self.low_in(grid))).flatten(2).transpose(1, 2)
        mean = torch.cat([low, high], dim=-1).mean(1, keepdim=True)
        return low + high * self.gate[1](F.gelu(self.gate[0](mean))).tanh()


class ResolutionSum(nn.Module):
    """What leaves LLaVA-HR's towers: the sum of a linear layer over each (MultiPathAlignModule)."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(low, low), nn.Linear(high, low)

    def draw(self) -> None:
        """Initial weights as the authors draw them: torch's own."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """low: (I, P, C) of a square grid; high: (I, C', rows, columns) -> (I, P, C)"""
        high = regridded(high, isqrt(low.shape[1]))
        return self.low(low) + self.high(high.flatten(2).transpose(1, 2))


def regridded(features: Tensor, side: int) -> Tensor:
    """(I, C, S, S) -> (I, C, side, side): means of whole blocks to shrink, bilinear with corners aligned to enlarge.
    Raises VistuneError where neither side is a multiple of the other."""
    rows, columns = features.shape[2:]
    if rows != columns or (rows % side and side % rows):
        raise VistuneError(f"high-resolution features of {rows}x{columns} do not fit a grid of {side}x{side}.")
    if rows > side:
        return F.avg_pool2d(features, rows // side)
    if rows < side:
        return F.interpolate(features.float(), (side, side), mode="bilinear", align_corners=True).to(features.dtype)
    return features


class DualTower(nn.Module):
    """LLaVA-HR's encoders: CLIP on a small copy of the picture, ConvNeXt on the picture itself, an adapter after each
    quarter of CLIP's blocks but the last. `adapters=False`: the first training stage, which has none."""

    def __init__(self, low: ClipTower, high: ConvNextTower, adapters: bool = True) -> None:
        super().__init__()
        self.low_tower, self.high_tower = low, high
        if low.total % 4:
            raise VistuneError(f"{low.total} blocks of the low-resolution encoder do not form four equal quarters.")
        count = 3 if adapters else 0
        self.adapters = nn.ModuleList(ResolutionAdapter(low.width, high.width) for _ in range(count))
        self.sum = ResolutionSum(low.width, high.width)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """Pictures (I, 3, S, S), normalised, and their small copies (I, 3, S', S') -> (I, P, C)"""
        detail = self.high_tower(high)
        quarter = self.low_tower.total // 4
        between = {quarter * (n + 1): partial(adapter, high=detail) for n, adapter in enumerate(self.adapters)}
        return self.sum(self.low_tower(low, between), detail)


class PatchMining(nn.Module):
    """Each low-resolution feature asks the high-resolution features of its own window for detail, and the answer is
    added to it: one head, no output layer. Source: Mini-Gemini paper, section 3.2; mgm_arch.py, unified_resampler."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, low)) for width in (low, high, high)
        )

    def draw(self) -> None:
        """Initial weights as the authors draw them: torch's own."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()

    def mine(self, low: Tensor, high: Tensor) -> Tensor:
        """low: (V, P, C) of a square grid; high: (V, C', S, S), S a multiple of that grid's side -> the answers
        (V, P, C)"""
        side = isqrt(low.shape[1])
        window = high.shape[-1] // side
        if side * side != low.shape[1] or tuple(high.shape[2:]) != (side * window, side * window):
            raise VistuneError(f"windows of a {tuple(high.shape[2:])} map do not fit {low.shape[1]} features.")
        cells = high.unflatten(3, (side, window)).unflatten(2, (side, window))  # V, C', side, window, side, window
        cells = cells.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)  # V, P, window * window, C'
        queries = self.query(low)[:, :, None]
        return F.scaled_dot_product_attention(queries, self.key(cells), self.value(cells))[:, :, 0]

    def forward(self, low: Tensor, high: Tensor, grid: int = 1) -> Tensor:
        """low: (I, V, P, C), V = grid * grid crops of a picture row by row, and then the overview if there is one more;
        high: (I, C', S, S) of the whole picture -> (I, V, P, C)"""
        images, views = low.shape[:2]
        if views not in (grid * grid, grid * grid + 1):
            raise VistuneError(f"{views} views do not form a grid of {grid}x{grid}, with or without an overview.")
        crops = high.unflatten(3, (grid, -1)).unflatten(2, (grid, -1)).permute(0, 2, 4, 1, 3, 5)
        found = self.mine(low[:, : grid * grid].flatten(0, 1), crops.flatten(1, 2).flatten(0, 1))
        found = found.unflatten(0, (images, -1))
        if views > grid * grid:
            small = F.interpolate(high.float(), scale_factor=1 / grid, mode="bilinear").to(high.dtype)
            found = torch.cat([found, self.mine(low[:, -1], small)[:, None]], dim=1)
        return low + found


def resolution_keys(original: Mapping[str, Tensor]) -> State:
    """Keys of LLaVA-HR's fusion below `model.vision_tower` -> those of `DualTower`, without the towers'."""
    adapter = r"align_stages_latent\.(\d+)\."
    layers = {"slow_conv": "high_in", "slow_proj": "high_out", "fast_conv": "low_in", "fast_proj": "low_out"}
    return rename(
        original,
        [
            (
                adapter + r"(slow_conv|slow_proj|fast_conv|fast_proj)\.(.+)",
                lambda match: f"adapters.{match[1]}.{layers[match[2]]}.{match[3]}",
            ),
            (adapter + r"gate\.0\.(.+)", r"adapters.\1.gate.0.\2"),
            (adapter + r"gate\.2\.(.+)", r"adapters.\1.gate.1.\2"),
            (r"align_stages\.0\.fast_proj\.(.+)", r"sum.low.\1"),
            (r"align_stages\.0\.slow_proj\.(.+)", r"sum.high.\1"),
        ],
        "the mixture of resolutions",
    )


def mining_keys(original: Mapping[str, Tensor]) -> State:
    """Keys of Mini-Gemini's mining below `model` -> ours."""
    parts = {"query": "query", "aux": "key", "val": "value"}
    return rename(
        original,
        [(r"vlm_uni_(query|aux|val)_projector\.(.+)", lambda match: f"{parts[match[1]]}.{match[2]}")],
        "patch information mining",
    )
