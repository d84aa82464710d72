"""Tables of positions over a grid of patches: learned ones resized to another grid, and the fixed sine-cosine one."""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor


def resized(table: Tensor, rows: int, columns: int, antialias: bool = False) -> Tensor:
    """A table (P, D) over a square grid, bicubically resized to (rows * columns, D) in float32 and returned in its own
    dtype; unchanged where the grid is the same. `antialias` is another kernel (a = -0.5, not -0.75), so it matters when
    enlarging too."""
    side = isqrt(len(table))
    if (rows, columns) == (side, side):
        return table
    grid = table.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False, antialias=antialias)
    return grid.permute(0, 2, 3, 1).flatten(0, 2).to(table.dtype)


def sincos(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """The fixed table float32 (rows * columns, D): the first half of the channels encodes the column, the second the
    row, each as sines then cosines of D / 4 frequencies (MAE, util/pos_embed.py).

    >>> sincos(1, 2, 4)[:, 0].tolist() == [0.0, torch.tensor(1.0).sin().item()]
    True
    """
    columns_table, rows_table = (sincos_line(length, width // 2, device) for length in (columns, rows))
    across = columns_table[None, :].expand(rows, -1, -1)
    down = rows_table[:, None].expand(-1, columns, -1)
    return torch.cat([across, down], dim=-1).flatten(0, 1)


def sincos_line(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """The same along one axis, float32 (length, D): sines then cosines of D / 2 frequencies.

    >>> sincos_line(2, 2)[1].tolist() == [torch.tensor(1.0).sin().item(), torch.tensor(1.0).cos().item()]
    True
    """
    half = width // 2
    frequencies = 1.0 / 10000 ** (torch.arange(half, dtype=torch.float32, device=device) / half)
    angles = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
