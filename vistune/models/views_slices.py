"""Views of a picture cut into slices of its own shape: LLaVA-UHD and MiniCPM-V, one idea in two sets of rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from vistune.models.views import Resize, Size, View, ViewPlan, check, cut


class Marks(NamedTuple):
    """Text around and between views in the sequence; pairs are what opens and what closes."""

    overview: tuple[str, str] = ("", "")
    slices: tuple[str, str] = ("", "")  # all of them together
    slice: tuple[str, str] = ("", "")  # each
    column: str = ""  # between slices of a row
    row: str = ""  # between rows
    last: str = ""  # after the last row


MINICPM_2 = Marks(("<image>", "</image>"), ("<slice>", "</slice>"), ("<image>", "</image>"), row="\n")
"""MiniCPM-V 2.0 and 2.5 (finetune/dataset.py, get_grid_placeholder)."""

MINICPM_26 = Marks(("<image>", "</image>"), slice=("<slice>", "</slice>"), row="\n")
"""MiniCPM-V 2.6."""

UHD = Marks(column=",", row="\n", last="\n")
"""LLaVA-UHD's spatial schema (slice_process.py)."""


@dataclass(frozen=True)
class Slices:
    """A picture larger than `scale` squared is cut into up to `most` slices in the grid whose ratio of sides is closest
    (by logarithm) to its own, among the grids of the number of slices its area asks for, one fewer, or one more. Each
    slice, and an overview, is resized to about `scale` squared pixels, sides in whole patches, and nothing is padded
    (LLaVA-UHD paper, section 3.1; MiniCPM-V finetune/dataset.py, slice_image).

    The defaults are MiniCPM-V's: sides to the nearest patch, the overview first. LLaVA-UHD cuts sides down to whole
    patches and puts the overview last. It also resizes the picture beforehand: for evaluation the longer side to 1024
    pixels, enlarging small ones (`long_side`); in training now and then to the area of six slices (`area`).

    >>> plan = Slices().plan(1920, 1080)
    >>> plan.grid, plan.views[0].size, plan.views[1].size
    ((4, 2), (602, 336), (420, 476))
    """

    scale: int = 448
    most: int = 9
    patch: int = 14
    tokens: int = 64  # of each view
    marks: Marks = MINICPM_26
    nearest: bool = True  # sides to the nearest multiple; otherwise down
    overview_first: bool = True
    long_side: int = 0  # 0: none
    area: int = 0  # in slices; 0: none

    @cached_property
    def _candidates(self) -> tuple[tuple[tuple[float, Size], ...], ...]:
        """By the number of slices that an area asks for: logarithms of ratios, and grids."""
        return tuple(
            tuple(
                (math.log(columns / (n // columns)), (columns, n // columns))
                for n in (wanted - 1, wanted, wanted + 1)
                if 1 < n <= self.most
                for columns in range(1, n + 1)
                if n % columns == 0
            )
            for wanted in range(self.most + 1)
        )

    @cached_property
    def _layouts(self) -> dict[Size, tuple[int | str, ...]]:
        """Of every grid; (0, 0) is the overview alone."""
        grids = {grid for candidates in self._candidates for _, grid in candidates}
        return {grid: _layout(*grid, self.marks, self.overview_first) for grid in {(0, 0), *grids}}

    def plan(self, width: int, height: int) -> ViewPlan:
        check(width, height)
        picture, before = (width, height), self._before(width, height)
        if before:
            width, height = before[0].size
        wanted = min(math.ceil(width * height / (self.scale * self.scale)), self.most)
        size = self._fit(width, height, enlarge=wanted <= 1)
        patches = (size[1] // self.patch, size[0] // self.patch)
        overview = View("overview", size, patches, self.tokens, (*before, Resize(size)), whole=True)
        if wanted <= 1:
            return ViewPlan(picture, before, (overview,), self.tokens, self._layouts[0, 0])
        columns, rows = grid = self._grid(wanted, math.log(width / height))
        across, down = self._fit(self._whole(width, columns) / columns, self._whole(height, rows) / rows, enlarge=True)
        slices = cut(columns, rows, across, down, self.patch, self.tokens, "slice")
        views = (overview, *slices) if self.overview_first else (*slices, overview)
        canvas = (*before, Resize((across * columns, down * rows)))
        return ViewPlan(picture, canvas, views, self.tokens * len(views), self._layouts[grid], grid)

    def _grid(self, wanted: int, ratio: float) -> Size:
        return min(self._candidates[wanted], key=lambda candidate: abs(ratio - candidate[0]))[1]

    def _before(self, width: int, height: int) -> tuple[Resize, ...]:
        if self.long_side:
            scale = self.long_side / max(width, height)
            resized = (self.long_side, int(scale * height)) if width > height else (int(scale * width), self.long_side)
        elif self.area:
            scale = math.sqrt(self.area * self.scale * self.scale / (width * height))
            resized = (int(width * scale), int(height * scale))
        else:
            return ()
        check(*resized, f" (resized from {width}x{height})")
        return (Resize(resized),)

    def _whole(self, length: float, unit: int) -> int:
        """In whole units, at least one."""
        return max((round(length / unit) if self.nearest else math.floor(length / unit)) * unit, unit)

    def _fit(self, width: float, height: float, enlarge: bool) -> Size:
        """About `scale` squared pixels in the same shape, sides in whole patches."""
        if enlarge or width * height > self.scale * self.scale:
            ratio = width / height
            height = int(self.scale / math.sqrt(ratio))
            width = int(height * ratio)
        return self._whole(width, self.patch), self._whole(height, self.patch)


def llava_uhd(scale: int = 336, most: int = 7, tokens: int = 144, long_side: int = 0, area: int = 0) -> Slices:
    """LLaVA-UHD's rules. `most` 1 leaves only the overview, as in its first stage."""
    return Slices(scale, most, 14, tokens, UHD, False, False, long_side, area)


def _layout(columns: int, rows: int, marks: Marks, overview_first: bool) -> tuple[int | str, ...]:
    """Views and marks in the order of the sequence."""
    overview: list[int | str] = [marks.overview[0], 0 if overview_first else columns * rows, marks.overview[1]]
    slices: list[int | str] = []
    for n in range(columns * rows):
        slices += [marks.slice[0], n + int(overview_first), marks.slice[1]]
        ends_row, ends_all = (n + 1) % columns == 0, n + 1 == columns * rows
        slices.append(marks.last if ends_all else marks.row if ends_row else marks.column)
    if slices:
        slices = [marks.slices[0], *slices, marks.slices[1]]
    parts = overview + slices if overview_first else slices + overview
    return tuple(part for part in parts if part != "")
