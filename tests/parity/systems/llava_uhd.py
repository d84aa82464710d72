"""LLaVA-UHD."""

from systems._modules_uhd import LLAVA_UHD
from systems._texts import TEXTS
from systems._views import boxes, draw, drawn, planned

from vistune.models.views import Resize
from vistune.models.views_slices import Slices, llava_uhd

IDS = {",": 29892, "\n": 13}
"""Of the marks, in Llama's vocabulary."""

BEFORE = {"train": {}, "eval": {"long_side": 1024}, "train_area6": {"area": 6}}


def views(key: str, width: int, height: int) -> dict:
    plan = llava_uhd(**BEFORE[key]).plan(width, height)
    resized = [step.size for step in plan.canvas if isinstance(step, Resize)]
    marks = [IDS[part] for part in plan.layout if isinstance(part, str)]
    return {
        "pre_resized_wh": resized[0] if BEFORE[key] else plan.picture,
        "grid_wh": plan.grid,
        "refine_wh": resized[-1] if plan.grid else None,
        "boxes": boxes(plan),
        "slice_wh": plan.views[0].size if plan.grid else None,
        "overview": {"position": "last", "resized_wh": plan.views[-1].size},
        "separators": marks,
        "n_views": len(plan.views),
        "n_tokens": plan.tokens + len(marks),
    }


def slice_pixels(variant: str, picture) -> dict:
    """`train_42`, `eval_42`: slices of 42 squared pixels; evaluation resizes to 150 then, to 1024 at 336."""
    stage, scale = variant.split("_")
    before = {"long_side": 1024 if scale == "336" else 150} if stage == "eval" else {}
    policy: Slices = llava_uhd(scale=int(scale), **before)
    *slices, overview = draw(policy, picture)
    return {f"{variant}.slice{n:02d}": view for n, view in enumerate(slices)} | {f"{variant}.overview": overview}


CHECKS = {
    "views": planned(views),
    "pixels": drawn(slice_pixels),
    **LLAVA_UHD,
    **TEXTS["llava_uhd"],
}
