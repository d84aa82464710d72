"""InternVL 1.5, 2 and 2.5."""

import re

from systems._modules_internvl import INTERNVL
from systems._texts import TEXTS
from systems._views import boxes, draw, drawn, planned

from vistune.models.pixels import IMAGENET
from vistune.models.views_tiles import ClosestRatio


def views(key: str, width: int, height: int) -> dict:
    """`max_12`, `min2_max6`"""
    least, most = re.fullmatch(r"(?:min(\d+)_)?max_?(\d+)", key).groups()
    plan = ClosestRatio(least=int(least or 1), most=int(most)).plan(width, height)
    overview = {"position": "last", "resized_wh": plan.views[-1].size} if plan.views[-1].whole else None
    return {
        "grid_wh": plan.grid,
        "resized_wh": plan.canvas[0].size,
        "boxes": boxes(plan),
        "overview": overview,
        "n_views": len(plan.views),
        "n_tokens": plan.tokens,
    }


def tile_pixels(variant: str, picture) -> dict:
    """`max12_448`"""
    most, size = re.fullmatch(r"max(\d+)_(\d+)", variant).groups()
    views = draw(ClosestRatio(int(size), most=int(most)), picture, IMAGENET)
    return {f"{variant}.view{n:02d}": view for n, view in enumerate(views)}


CHECKS = {
    "views": planned(views),
    "pixels": drawn(tile_pixels),
    **INTERNVL,
    **TEXTS["internvl"],
}
