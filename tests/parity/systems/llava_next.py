"""LLaVA-NeXT, and the arithmetic of LLaVA-OneVision's anyres_max_9."""

from systems._modules_next import LLAVA_NEXT
from systems._texts import TEXTS
from systems._views import boxes, draw, drawn, planned

from vistune.models.views import Stitched
from vistune.models.views_tiles import PINPOINTS, AnyRes, square_grids

POLICIES = {"anyres": AnyRes(), "anyres_ov": AnyRes(square_grids(6, 384), 384, most=9)}


def views(key: str, width: int, height: int) -> dict:
    plan = POLICIES[key].plan(width, height)
    resize, pad = plan.canvas
    stitched = next(part for part in plan.layout if isinstance(part, Stitched))
    common = {
        "best_resolution_wh": pad.canvas,
        "grid_wh": plan.grid,
        "resized_wh": resize.size,
        "paste_xy": pad.at,
        "n_views": len(plan.views),
        "unpadded_feature_hw": plan.features,
        "n_tokens": plan.tokens,
    }
    if key == "anyres_ov":
        return {**common, "shrunk_feature_hw": (stitched.rows, stitched.columns)}
    overview = {"position": "first", "resized_wh": plan.views[0].size}
    return {
        **common,
        "fill_rgb": pad.fill,
        "boxes": boxes(plan),
        "overview": overview,
        "newlines": stitched.rows,
    }


def tile_pixels(variant: str, picture) -> dict:
    """`anyres_42`: the usual canvases in units of 42 pixels."""
    unit = int(variant.split("_")[1])
    policy = AnyRes(tuple((w // 336 * unit, h // 336 * unit) for w, h in PINPOINTS), unit)
    return {f"{variant}.view{n:02d}": view for n, view in enumerate(draw(policy, picture))}


CHECKS = {
    "views": planned(views),
    "pixels": drawn(tile_pixels),
    **LLAVA_NEXT,
    **TEXTS["llava_next"],
}
