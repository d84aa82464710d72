"""mPLUG-Owl and mPLUG-Owl2."""

import re

from systems._modules_owl import OWL
from systems._texts import TEXTS
from systems._views import draw, drawn, planned

from vistune.models.views import Pad, Square

FITS = {"owl1": "stretch", "owl2_pad": "pad", "owl2_resize": "widen"}
SIZES = {"owl1": 224, "owl2_pad": 448, "owl2_resize": 448}


def views(key: str, width: int, height: int) -> dict:
    plan = Square(SIZES[key], FITS[key], tokens=65).plan(width, height)
    if key == "owl1":
        return {"strategy": FITS[key], "size": plan.canvas[0].size, "tokens": plan.tokens}
    final = {"final": plan.canvas[-1].size, "tokens": plan.tokens}
    if key == "owl2_resize":
        return {"square_side": plan.canvas[0].size[0], **final}
    policy = Square(SIZES[key], "pad")
    pad = plan.canvas[0] if isinstance(plan.canvas[0], Pad) else Pad((width, height), (0, 0), policy.fill)
    return {"square_side": pad.canvas[0], "paste_xy": pad.at, "background": pad.fill, **final}


def square_pixels(variant: str, picture) -> dict:
    """`owl1_s224`, whose processor and training transform agree; `owl2_pad_s448`."""
    fit, size = re.fullmatch(r"(\w+)_s(\d+)", variant).groups()
    view = draw(Square(int(size), FITS[fit]), picture)[0]
    return {f"{variant}.processor": view, f"{variant}.train_default": view} if fit == "owl1" else {variant: view}


CHECKS = {
    "views": planned(views),
    "pixels": drawn(square_pixels),
    **TEXTS["mplug_owl"],
    **OWL,
}
