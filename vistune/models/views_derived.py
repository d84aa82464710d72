"""Several views made of one picture at fixed sizes: two resolutions, windows, parts. Their number is always the same.

Each arrangement is one system's, and its function bears the name. Most resize the normalised tensor rather than the
picture, inside the model; these steps are `Interpolate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vistune.models.views import (
    Interpolate,
    Letterbox,
    Policy,
    Resize,
    Size,
    Square,
    Step,
    View,
    ViewPlan,
    check,
    cut,
    square_view,
)


@dataclass(frozen=True)
class Derived:
    """`views` of the square that `base` makes, or of the picture itself. `order`: those with tokens of their own, as
    the sequence has them."""

    base: Policy | None
    views: tuple[View, ...]
    order: tuple[int, ...]
    grid: Size | None = None

    def plan(self, width: int, height: int) -> ViewPlan:
        check(width, height)
        canvas = self.base.plan(width, height).canvas if self.base else ()
        tokens = sum([self.views[n].tokens for n in self.order])
        return ViewPlan((width, height), canvas, self.views, tokens, self.order, self.grid)


def _after(steps: tuple[Step, ...], views: tuple[View, ...]) -> tuple[View, ...]:
    return tuple(view._replace(steps=steps + view.steps) for view in views)


def llava_hr(size: int = 1024, fit: Literal["crop", "pad"] = "pad", least: int = 336) -> Derived:
    """LLaVA-HR (multipath_encoder_wapper.py): the square for the ConvNeXt, which strides 32, and a small copy for CLIP
    of at least `least` pixels, made so that both grids agree from 768 pixels on. Its first stage crops to 384.

    >>> llava_hr(1024).plan(800, 600).tokens
    1024
    """
    fast = max(int(size / 32 * 14), least)
    shrink = Interpolate((fast, fast), "bilinear", align_corners=True)
    views = (square_view("high", size, 32), square_view("low", fast, 14, (fast // 14) ** 2, (shrink,)))
    return Derived(Square(size, fit), views, (1,))


def mini_gemini(high: int = 768, low: int = 336, grid: int = 1, fit: Literal["crop", "pad"] = "pad") -> Derived:
    """Mini-Gemini (eval/model_vqa_loader.py): the square for the ConvNeXt, whose first grid strides 4, and a small copy
    for CLIP. With `grid` 2 (HD, 1536) the copy is cut into four and made small once more; this last view comes first
    in the sequence.

    >>> mini_gemini(1536, grid=2).plan(800, 600).layout
    (5, 1, 2, 3, 4)
    """
    shrink, tokens = Interpolate((low * grid, low * grid), "bilinear"), (low // 14) ** 2
    square = square_view("high", high, 4)
    if grid == 1:
        return Derived(Square(high, fit), (square, square_view("low", low, 14, tokens, (shrink,))), (1,))
    parts = _after((shrink,), cut(grid, grid, low, low, 14, tokens))
    whole = square_view("overview", low, 14, tokens, (shrink, Interpolate((low, low), "bilinear")))
    views = (square, *parts, whole)
    return Derived(Square(high, fit), views, (len(views) - 1, *range(1, len(views) - 1)), (grid, grid))


def monkey(size: Size = (896, 896), window: int = 448, tokens: int = 256) -> Derived:
    """Monkey (monkey_model/visual.py): the picture stretched, its windows row by row, then all of it in one window."""
    columns, rows = size[0] // window, size[1] // window
    windows = cut(columns, rows, window, window, 14, tokens, "window")
    whole = square_view("overview", window, 14, tokens, (Interpolate((window, window), "bicubic"),))
    views = _after((Resize(size),), (*windows, whole))
    return Derived(None, views, tuple(range(len(views))), (columns, rows))


def sphinx(parts: int = 2, size: int = 224, tokens: int = 291, part_tokens: int = 0) -> Derived:
    """SPHINX (accessory/model/LLM/llama_ens*.py): the padded square shrunk, then its parts row by row. The copy is made
    in half precision. Tokens: 32 of the Q-Former, 257 of the joined encoders, a learned start and end; with p2 a part
    has 99 (`part_tokens`). `parts` 1 is the model with a single view.

    >>> sphinx(2).plan(800, 600).tokens, sphinx(2, part_tokens=99).plan(800, 600).tokens
    (1455, 687)
    """
    if parts == 1:
        return Derived(Square(size, "pad"), (square_view("square", size, 14, tokens),), (0,))
    shrink = Interpolate((size, size), "bicubic", half=True)
    views = (
        square_view("overview", size, 14, tokens, (shrink,)),
        *cut(parts, parts, size, size, 14, part_tokens or tokens),
    )
    return Derived(Square(size * parts, "pad"), views, tuple(range(len(views))), (parts, parts))


def sphinx_light(parts: int = 2, low: int = 224, high: int = 512, tokens: int = 259) -> Derived:
    """SPHINX-Tiny and -MoE (llama_ens5_light.py; `parts` 1: llama_ens_light.py). The padded square of `high` x `parts`
    pixels twice over, each time shrunk and then in parts: first small for DINOv2, which makes the tokens' places, then
    large for the ConvNeXt, which strides 32."""

    def shrink(side: int) -> tuple[Step, ...]:
        return () if side == high * parts else (Interpolate((side, side), "bicubic", half=True),)

    small = [square_view("low", low, 14, tokens, shrink(low))]
    large = [square_view("high", high, 32, 0, shrink(high))]
    if parts > 1:
        small += _after(shrink(low * parts), cut(parts, parts, low, low, 14, tokens, "low"))
        large += cut(parts, parts, high, high, 32, 0, "high")
    return Derived(Square(high * parts, "pad"), (*small, *large), tuple(range(len(small))), (parts, parts))


def deepseek_hybrid(high: int = 1024, low: int = 384, least: int = 14) -> Derived:
    """DeepSeek-VL 7B (clip_encoder.py, HybridVisionTower): the padded square for SAM and a small copy for SigLIP, both
    in [0, 1], since each tower normalises its own."""
    shrink = Interpolate((low, low), "bilinear", antialias=True)
    views = (square_view("high", high, 16), square_view("low", low, 16, (low // 16) ** 2, (shrink,)))
    return Derived(Letterbox(high, least), views, (1,))


def cogagent(low: int = 224, high: int = 1120) -> Derived:
    """CogAgent: the picture stretched to two sizes. Only the small one is in the sequence, between a learned start and
    end; the large one is attended to from every layer."""
    small = square_view("low", low, 14, (low // 14) ** 2 + 2, (Resize((low, low)),))
    return Derived(None, (small, square_view("high", high, 14, 0, (Resize((high, high)),))), (0,))
