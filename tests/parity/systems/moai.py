"""MoAI."""

from systems._modules_moai import MOAI
from systems._texts import TEXTS
from systems._views import BYTES, draw, drawn, planned

from vistune.models.pixels import CLIP_BYTES
from vistune.models.views import Square

LATENTS = 64
"""Of the compressed evidence, which is not in the sequence."""


def policy(size: int = 490) -> Square:
    return Square(size, "stretch", filter="point-bilinear")


def views(key: str, width: int, height: int) -> object:
    plan = policy().plan(width, height)
    return {
        "strategy": policy().fit,
        "size": plan.canvas[0].size,
        "patch_grid": plan.views[0].patches,
        "visual_tokens": plan.tokens,
        "aux_latents": LATENTS,
        "crops": [(0, 0, *plan.picture)],
    }[key]


def resized_pixels(variant: str, picture) -> dict:
    size = int(variant.removeprefix("s"))
    return {
        f"{variant}.resized_uint8": draw(policy(size), picture, BYTES)[0].byte(),
        f"{variant}.normalised": draw(policy(size), picture, CLIP_BYTES)[0],
    }


CHECKS = {
    "views": planned(views),
    "pixels": drawn(resized_pixels),
    **TEXTS["moai"],
    **MOAI,
}
