"""DeepSeek-VL."""

import re

from systems._modules_deepseek import DEEPSEEK
from systems._texts import TEXTS
from systems._views import draw, drawn, planned

from vistune.models.pixels import CLIP, UNIT
from vistune.models.views import CLIP_GREY, Letterbox, Pad
from vistune.models.views_derived import deepseek_hybrid

GREY = (127, 127, 127)
"""What transformers pads with where no mean is given."""


def views(key: str, width: int, height: int) -> object:
    if key == "tokens":
        plans = (Letterbox(384).plan(width, height), deepseek_hybrid().plan(width, height))
        (tokens,) = {plan.tokens for plan in plans}
        return tokens
    size = int(key.removeprefix("s"))
    plan, half = Letterbox(size).plan(width, height), Letterbox(size, fill=GREY).plan(width, height)
    return {
        "original_resized_hw": plan.canvas[0].size[::-1],
        "paste_xy": plan.canvas[1].at if len(plan.canvas) > 1 else (0, 0),
        "canvas": plan.views[0].size[0],
        "hf_resized_hw": Letterbox(size, transformers=True).plan(width, height).canvas[0].size[::-1],
        "background_clip_mean": fill(plan, CLIP_GREY),
        "background_half": fill(half, GREY),
    }


def fill(plan, default) -> tuple:
    return next((step.fill for step in plan.canvas if isinstance(step, Pad)), default)


def both_pixels(variant: str, picture) -> dict:
    """`s384` and `s28_norm` for SigLIP alone; `s1024_nonorm_low384` for both towers, which normalise themselves. At
    reduced sizes the shorter side may shrink to 2 pixels."""
    size, low = re.fullmatch(r"s(\d+)(?:_norm|_nonorm_low(\d+))?", variant).groups()
    least = 14 if int(size) >= 384 else 2
    if low is None:
        return {variant: draw(Letterbox(int(size), least), picture, CLIP)[0]}
    large, small = draw(deepseek_hybrid(int(size), int(low), least), picture, UNIT)
    return {variant: large, f"{variant}.low": small}


CHECKS = {
    "views": planned(views),
    "pixels": drawn(both_pixels),
    **TEXTS["deepseekvl"],
    **DEEPSEEK,
}
