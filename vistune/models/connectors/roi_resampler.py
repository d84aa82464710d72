"""RoI resampler of LLaVA-UHD: each query reads only its own cell of the view.

The same module as `resampler`, but keys and values are first cut up by RoIAlign: with 12 x 12 queries, query (i, j)
sees the i-th of 12 equal rows and the j-th of 12 equal columns of the features, pooled to 6 to 12 bins.
Source: LLaVA-UHD (branch LLaVA-UHD-v1), adapt_spatial_resampler.py. This is the released code (144 queries); the paper
describes a plain `Resampler` with 64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vistune.models.connectors.resampler import Resampler, ResamplerConfig, Size, view_sizes

BINS: tuple[Size, ...] = ((2, 4), (2, 3), (3, 4), (3, 3), (4, 2), (3, 2), (4, 3))  # rows, columns


class RoIResampler(Resampler):
    """`edge`: samples beyond the last row or column count as that row or column, as in torchvision's pure-Python
    RoIAlign. Without it they count as zero, as in the compiled one that published weights were trained with. The two
    differ only for views of fewer rows or columns than queries per side, whose regions are widened to one cell."""

    def __init__(self, config: ResamplerConfig, edge: bool = False) -> None:
        super().__init__(config)
        self.edge = edge

    def attend(self, features: Tensor, sizes: Size | Sequence[Size] | None = None) -> Tensor:
        each = view_sizes(features, sizes)
        inputs = self.input_norm(self.inputs(features))
        result = inputs.new_empty(len(inputs), self.config.queries, self.config.width)
        for size in dict.fromkeys(each):
            views = [n for n, other in enumerate(each) if other == size]
            values = self._pooled(inputs[views, : size[0] * size[1]], size)
            # Pooling is linear, so that of the keys is that of the values plus that of the positions.
            positions = self._pooled(self.key_positions(*size)[None], size).to(values.dtype)
            queries = self.placed_queries()[:, None]
            result[views] = self.attention(queries, values + positions, values)[:, :, 0]
        return result

    def _pooled(self, features: Tensor, size: Size) -> Tensor:
        """(V, rows * columns, D) -> (V, Q, bins, D): for each query the bins of its region, row by row."""
        cells = self.config.grid
        rows, columns = bins(*size)
        down = roi_weights(size[0], cells, rows, self.edge).to(features.device)
        across = roi_weights(size[1], cells, columns, self.edge).to(features.device)
        grid = features.float().unflatten(1, size)
        pooled = torch.einsum("yr,xc,vrcd->vyxd", down, across, grid).to(features.dtype)
        pooled = pooled.unflatten(2, (cells, columns)).unflatten(1, (cells, rows))  # V, i, rows, j, columns, D
        return pooled.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def bins(rows: int, columns: int) -> Size:
    """Into how many bins a region is pooled: the grid whose ratio of sides is closest to the features'.

    >>> bins(24, 24), bins(13, 41), bins(41, 13)
    ((3, 3), (2, 4), (4, 2))
    """
    ratio = math.log(columns / rows)
    return min(BINS, key=lambda grid: abs(ratio - math.log(grid[1] / grid[0])))


@lru_cache(maxsize=256)
def roi_weights(length: int, cells: int, bins: int, edge: bool) -> Tensor:
    """RoIAlign along one axis as a matrix, float32 (cells * bins, length). Both axes are independent, because all
    regions are cells of one grid.

    A cell of `length / cells` is at least one long and has `bins` bins; a bin is the mean of as many samples as it is
    long, rounded up; a sample lies between two features, whose centres are at whole numbers (aligned=False), and takes
    from each by its nearness.

    >>> roi_weights(4, 2, 2, False).tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.0, 1.0]]
    """
    with torch.device("cpu"):
        starts = torch.arange(cells, dtype=torch.float64) * (length / cells)
        ends = (starts + length / cells).float()
        extents = (ends - starts.float()).clamp(min=1.0)[:, None, None] / bins
        samples = math.ceil(extents.max())
        at = starts.float()[:, None, None] + torch.arange(bins)[:, None] * extents  # cells, bins, samples
        at = at + (torch.arange(samples) + 0.5) * extents / samples  # float32, in this order: as the original rounds
    low = at.long().clamp(max=length - 1)
    share = torch.where(low < length - 1, at - low, 0.0)
    weights = (1 - share)[..., None] * F.one_hot(low, length)
    weights += share[..., None] * F.one_hot((low + 1).clamp(max=length - 1), length)
    if not edge:
        weights *= (at <= length)[..., None]
    return weights.mean(2).flatten(0, 1)
