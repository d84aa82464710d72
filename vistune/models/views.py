"""Which views of a picture a model sees, planned from the picture's width and height alone.

A policy is a small frozen value, as `Square(336, "pad")`; its `plan(width, height)` is a pure function. No pixels and
no torch here, so the token counts of a data set are known before a picture is decoded. `pixels` carries a plan out.

Sizes and grids of tiles are (width, height), boxes (left, top, right, bottom), grids of patches and features (rows,
columns). A picture that would shrink to nothing raises VistuneError. `transformers=True` plans as the processors of
the transformers library do, where they differ from the authors'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple, Protocol

from vistune.errors import VistuneError

Size = tuple[int, int]
Box = tuple[int, int, int, int]
Color = tuple[int, int, int]

CLIP_GREY: Color = (122, 116, 104)
"""CLIP's mean colour, cut to whole numbers: what most systems pad with."""


class Resize(NamedTuple):
    """`bicubic` and `bilinear` are Pillow's and antialias; `point-bilinear` is PyTorch's on bytes and does not."""

    size: Size
    filter: Literal["bicubic", "bilinear", "point-bilinear"] = "bicubic"


class Pad(NamedTuple):
    """Paste at a place on a canvas of one colour."""

    canvas: Size
    at: tuple[int, int]
    fill: Color


class Crop(NamedTuple):
    box: Box


class Interpolate(NamedTuple):
    """Resizing of the normalised tensor, by models that make a second view from the first. `half`: in float16."""

    size: Size
    mode: Literal["bilinear", "bicubic"]
    align_corners: bool = False
    antialias: bool = False
    half: bool = False


Step = Resize | Pad | Crop | Interpolate
Kind = Literal["square", "overview", "tile", "slice", "window", "high", "low", "native"]


class View(NamedTuple):
    """One tensor for one encoder."""

    kind: Kind
    size: Size
    patches: tuple[int, int]
    tokens: int  # of its own in the sequence; 0 for one that feeds another view's, or is stitched
    steps: tuple[Step, ...] = ()  # from the plan's canvas
    whole: bool = False  # the steps start at the picture instead


class Stitched(NamedTuple):
    """In a layout: the features of all tiles as one map of this size, each row closed by a learned newline."""

    rows: int
    columns: int


class ViewPlan(NamedTuple):
    """`layout` is the order in the sequence: an index stands for the tokens of that view, a string for text."""

    picture: Size
    canvas: tuple[Step, ...]  # how the picture becomes what the views are cut or made from
    views: tuple[View, ...]
    tokens: int  # without the layout's text
    layout: tuple[int | str | Stitched, ...]
    grid: Size | None = None  # tiles: columns x rows
    features: tuple[int, int] | None = None  # of the stitched map after unpadding, before any pooling


class Policy(Protocol):
    def plan(self, width: int, height: int) -> ViewPlan: ...


def check(width: int, height: int, history: str = "") -> None:
    if width < 1 or height < 1:
        raise VistuneError(f"a picture of {width}x{height} pixels{history} has no views; both sides need at least 1.")


def square_view(
    kind: Kind, side: int, patch: int, tokens: int = 0, steps: tuple[Step, ...] = (), whole: bool = False
) -> View:
    return View(kind, (side, side), (side // patch, side // patch), tokens, steps, whole)


@lru_cache(maxsize=4096)
def cut(
    columns: int, rows: int, width: int, height: int, patch: int, tokens: int, kind: Kind = "tile"
) -> tuple[View, ...]:
    """Views of width x height each, row by row from a canvas of columns x rows of them.

    >>> [view.steps[0].box for view in cut(2, 1, 336, 336, 14, 576)]
    [(0, 0, 336, 336), (336, 0, 672, 336)]
    """
    patches = (height // patch, width // patch)
    corners = [(x * width, y * height) for y in range(rows) for x in range(columns)]
    return tuple(
        View(kind, (width, height), patches, tokens, (Crop((x, y, x + width, y + height)),)) for x, y in corners
    )


def pad_square(width: int, height: int, fill: Color) -> tuple[Step, ...]:
    """The picture in the middle of a square of its longer side; nothing where it is one already."""
    if width == height:
        return ()
    side = max(width, height)
    return (Pad((side, side), ((side - width) // 2, (side - height) // 2), fill),)


@dataclass(frozen=True)
class Square:
    """One square view. The picture gets there by one of four fits:

    - crop: shorter side to `size`, then the centre (CLIP's processor; LLaVA's first stage).
    - pad: to a square with a fill of colour, then to `size` (LLaVA 1.5, mPLUG-Owl2, SPHINX).
    - stretch: straight to `size` (BLIP's processor; MiniGPT-4, Qwen-VL, CogVLM, mPLUG-Owl, MoAI).
    - widen: stretched to a square of its longer side, then to `size` (mPLUG-Owl2 at inference).

    >>> Square(336, "crop").plan(640, 480).canvas
    (Resize(size=(448, 336), filter='bicubic'), Crop(box=(56, 0, 392, 336)))
    """

    size: int
    fit: Literal["crop", "pad", "stretch", "widen"] = "crop"
    patch: int = 14
    tokens: int = 0  # 0: one for each patch
    fill: Color = CLIP_GREY
    filter: Literal["bicubic", "bilinear", "point-bilinear"] = "bicubic"

    @cached_property
    def _view(self) -> View:
        return square_view("square", self.size, self.patch, self.tokens or (self.size // self.patch) ** 2)

    def plan(self, width: int, height: int) -> ViewPlan:
        check(width, height)
        size = (self.size, self.size)
        steps: tuple[Step, ...]
        if self.fit == "crop":
            short, long = min(width, height), max(width, height)
            long = int(self.size * long / short)
            extra = (long - self.size) // 2
            if width <= height:
                steps = (Resize((self.size, long)), Crop((0, extra, self.size, extra + self.size)))
            else:
                steps = (Resize((long, self.size)), Crop((extra, 0, extra + self.size, self.size)))
        elif self.fit == "pad":
            steps = (*pad_square(width, height, self.fill), Resize(size))
        elif self.fit == "stretch":
            steps = (Resize(size, self.filter),)
        else:
            side = max(width, height)
            steps = (Resize((side, side)), Resize(size))
        return ViewPlan((width, height), steps, (self._view,), self._view.tokens, (0,))


@dataclass(frozen=True)
class Letterbox:
    """One square view: longer side to `size`, then padded (DeepSeek-VL, image_processing_vlm.py). Unlike `Square`'s
    pad, the border is never resampled.

    >>> Letterbox(384).plan(1000, 333).canvas[0].size, Letterbox(384, transformers=True).plan(1000, 333).canvas[0].size
    ((384, 127), (384, 128))
    """

    size: int
    least: int = 14  # pixels of the shorter side
    patch: int = 16
    tokens: int = 0  # 0: one for each patch
    fill: Color = CLIP_GREY
    transformers: bool = False

    @cached_property
    def _view(self) -> View:
        return square_view("square", self.size, self.patch, self.tokens or (self.size // self.patch) ** 2)

    def plan(self, width: int, height: int) -> ViewPlan:
        check(width, height)
        side = max(width, height)
        if self.transformers:
            scale = self.size / side
            resized = max(round(width * scale), self.least), max(round(height * scale), self.least)
        else:
            resized = (
                max(int(width / side * self.size), self.least),
                max(int(height / side * self.size), self.least),
            )
        steps = (Resize(resized), *pad_square(*resized, self.fill))
        return ViewPlan((width, height), steps, (self._view,), self._view.tokens, (0,))


@dataclass(frozen=True)
class Native:
    """The picture at its own size, both sides rounded to whole merged patches, the area kept within limits (Qwen2-VL
    paper, section 2.1; qwen-vl-utils, smart_resize). The authors allow 16384 tokens, transformers by default 1280.

    >>> Native().plan(13, 300).tokens, Native(transformers=True).plan(13, 300).tokens
    (11, 10)
    """

    least: int = 4 * 28 * 28  # pixels
    most: int = 16384 * 28 * 28
    patch: int = 14
    merge: int = 2
    longest: int = 200  # times the shorter side
    transformers: bool = False

    def plan(self, width: int, height: int) -> ViewPlan:
        check(width, height)
        if max(width, height) > self.longest * min(width, height):
            ratio = max(width, height) / min(width, height)
            raise VistuneError(
                f"the sides of a picture of {width}x{height} pixels differ {ratio:.1f} times; "
                f"the limit is {self.longest}."
            )
        resized = self._resized(width, height)
        patches = (resized[1] // self.patch, resized[0] // self.patch)
        tokens = patches[0] * patches[1] // self.merge**2
        return ViewPlan((width, height), (Resize(resized),), (View("native", resized, patches, tokens),), tokens, (0,))

    def _resized(self, width: int, height: int) -> Size:
        unit = self.patch * self.merge
        floor = 0 if self.transformers else unit
        across, down = max(floor, round(width / unit) * unit), max(floor, round(height / unit) * unit)
        if across * down > self.most:
            shrink = math.sqrt(width * height / self.most)
            across, down = int(width / shrink / unit) * unit, int(height / shrink / unit) * unit
            return max(unit, across), max(unit, down)
        if across * down < self.least:
            grow = math.sqrt(self.least / (width * height))
            return math.ceil(width * grow / unit) * unit, math.ceil(height * grow / unit) * unit
        return across, down
