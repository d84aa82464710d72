"""Views on a grid of equal tiles: chosen resolutions with padding (LLaVA-NeXT) and the closest ratio (InternVL)."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property, lru_cache

from vistune.models.views import Pad, Resize, Size, Stitched, View, ViewPlan, check, cut, square_view

BLACK = (0, 0, 0)

PINPOINTS: tuple[Size, ...] = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
"""Canvases of LLaVA 1.6, (width, height)."""


def square_grids(most: int, size: int) -> tuple[Size, ...]:
    """Canvases of LLaVA-OneVision: "(1x1),...,(6x6)" with `most` 6, in the order of its configuration."""
    return tuple((size * i, size * j) for i in range(1, most + 1) for j in range(1, most + 1))


@dataclass(frozen=True)
class AnyRes:
    """An overview, and the picture in the middle of one of several black canvases, cut into tiles (LLaVA-NeXT blog,
    2024; llava/mm_utils.py, process_anyres_image; llava_arch.py, unpad_image).

    The canvas that keeps most pixels wins, then the one that wastes least, then the first. The overview is the picture
    stretched. The tiles' features are stitched and the padding is cut off, which may leave nothing of a very thin
    picture. With `most` (OneVision's anyres_max_k), more features than 1.21 x `most` tiles' are pooled to about `most`.

    transformers reads the canvases as (height, width), so the tie that every picture of up to 336 pixels a side makes
    falls the other way, and it rounds before it cuts padding off.

    >>> plan = AnyRes().plan(800, 600)
    >>> plan.grid, plan.features, plan.tokens
    ((2, 2), (36, 48), 2340)
    """

    canvases: tuple[Size, ...] = PINPOINTS
    size: int = 336
    patch: int = 14
    most: int = 0  # 0: no limit
    transformers: bool = False

    @cached_property
    def _largest_first(self) -> list[tuple[int, int, int]]:
        """Width, height and area of the canvases; of one area, in their order."""
        canvases = [(h, w) for w, h in self.canvases] if self.transformers else self.canvases
        return sorted(((w, h, w * h) for w, h in canvases), key=lambda canvas: -canvas[2])

    @cached_property
    def _overview(self) -> View:
        steps, tokens = (Resize((self.size, self.size)),), (self.size // self.patch) ** 2
        return square_view("overview", self.size, self.patch, tokens, steps, whole=True)

    def plan(self, width: int, height: int) -> ViewPlan:
        check(width, height)
        canvas = self._best(width, height)
        scale = min(canvas[0] / width, canvas[1] / height)
        if canvas[0] / width < canvas[1] / height:
            resized = (canvas[0], min(math.ceil(height * scale), canvas[1]))
        else:
            resized = (min(math.ceil(width * scale), canvas[0]), canvas[1])
        at = ((canvas[0] - resized[0]) // 2, (canvas[1] - resized[1]) // 2)
        grid = (canvas[0] // self.size, canvas[1] // self.size)
        tiles = cut(*grid, self.size, self.size, self.patch, 0)
        features = self._unpadded(width, height, grid)
        stitched = self._pooled(features)
        tokens = self._overview.tokens + stitched.rows * (stitched.columns + 1)
        steps = (Resize(resized), Pad(canvas, at, BLACK))
        return ViewPlan((width, height), steps, (self._overview, *tiles), tokens, (0, stitched), grid, features)

    def _best(self, width: int, height: int) -> Size:
        area = width * height
        best, kept, least = self.canvases[0], -1, 0
        for across, down, pixels in self._largest_first:
            if pixels < kept:  # no smaller canvas keeps as much
                break
            scale, other = across / width, down / height
            if other < scale:
                scale = other
            effective = area if scale >= 1 else int(width * scale) * int(height * scale)
            if effective > kept or (effective == kept and pixels < least):
                best, kept, least = (across, down), effective, pixels
        return best

    def _unpadded(self, width: int, height: int, grid: Size) -> tuple[int, int]:
        """The stitched map without the rows or columns that show only padding."""
        side = self.size // self.patch
        columns, rows = grid[0] * side, grid[1] * side
        if width / height > columns / rows:
            kept = height * (columns / width)
            return rows - 2 * ((rows - self._whole(kept)) // 2), columns
        kept = width * (rows / height)
        return rows, columns - 2 * ((columns - self._whole(kept)) // 2)

    def _whole(self, length: float) -> int:
        return int(round(length, 7)) if self.transformers else int(length)

    def _pooled(self, features: tuple[int, int]) -> Stitched:
        rows, columns = features
        if self.most:
            shrink = math.sqrt(rows * columns / (self.most * (self.size // self.patch) ** 2))
            if shrink > 1.1:
                return Stitched(int(rows // shrink), int(columns // shrink))
        return Stitched(rows, columns)


@dataclass(frozen=True)
class ClosestRatio:
    """The picture stretched to the grid of between `least` and `most` tiles whose ratio of sides is closest to its own,
    and, where there is more than one tile, a thumbnail after them (InternVL 1.5 paper, section 3.3; dataset.py,
    dynamic_preprocess).

    Only grids of exactly equal distance are told apart by area: the larger is taken if the picture covers more than
    half of it. So an 800 x 600 photograph fills 4 x 3 tiles.

    >>> ClosestRatio(most=12).plan(800, 600).grid
    (4, 3)
    """

    size: int = 448
    least: int = 1
    most: int = 12
    patch: int = 14
    tokens: int = 256  # of each view
    thumbnail: bool = True

    @cached_property
    def _grids(self) -> tuple[list[float], list[list[Size]]]:
        """The ratios in order, and of each its grids, smallest first."""
        by_ratio: dict[float, list[Size]] = {}
        for columns in range(1, self.most + 1):
            for rows in range(1, self.most // columns + 1):
                if self.least <= columns * rows:
                    by_ratio.setdefault(columns / rows, []).append((columns, rows))
        ratios = sorted(by_ratio)
        return ratios, [sorted(by_ratio[ratio], key=math.prod) for ratio in ratios]

    def plan(self, width: int, height: int) -> ViewPlan:
        check(width, height)
        grid = self._closest(width, height)
        return _stretched(self, *grid)._replace(picture=(width, height))

    def _closest(self, width: int, height: int) -> Size:
        ratio = width / height
        ratios, grids = self._grids
        right = bisect_left(ratios, ratio)
        if right == 0:
            tied = grids[0]
        elif right == len(ratios):
            tied = grids[-1]
        else:
            below, above = ratio - ratios[right - 1], ratios[right] - ratio
            if below == above:
                tied = sorted(grids[right - 1] + grids[right], key=math.prod)
            else:
                tied = grids[right] if above < below else grids[right - 1]
        best = tied[0]
        for grid in tied[1:]:
            if width * height > 0.5 * self.size * self.size * grid[0] * grid[1]:
                best = grid
        return best


@lru_cache(maxsize=4096)
def _stretched(policy: ClosestRatio, columns: int, rows: int) -> ViewPlan:
    """The plan of a grid: pictures that choose it differ in nothing else."""
    size = policy.size
    views = cut(columns, rows, size, size, policy.patch, policy.tokens)
    if policy.thumbnail and len(views) > 1:
        thumbnail = (Resize((size, size)),)
        views += (square_view("overview", size, policy.patch, policy.tokens, thumbnail, whole=True),)
    steps = (Resize((columns * size, rows * size)),)
    return ViewPlan((0, 0), steps, views, policy.tokens * len(views), tuple(range(len(views))), (columns, rows))
