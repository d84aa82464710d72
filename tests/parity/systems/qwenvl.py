"""Qwen-VL."""

from systems._modules_qwen import QWENVL
from systems._texts import TEXTS
from systems._views import planned, stretched_pixels

from vistune.models.views import Square

POLICY = Square(448, "stretch", tokens=256)


def views(key: str, width: int, height: int) -> object:
    plan = POLICY.plan(width, height)
    return {
        "strategy": POLICY.fit,
        "image_size": plan.canvas[0].size,
        "crops": [(0, 0, *plan.picture)],
        "visual_tokens": plan.tokens,
        "special_tokens_around": ["<img>", "</img>"],
        "inner_slots": plan.tokens,
    }[key]


CHECKS = {
    "views": planned(views),
    "pixels": stretched_pixels(),
    **TEXTS["qwenvl"],
    **QWENVL,
}
