"""MiniGPT-4 and MiniGPT-v2."""

from systems._modules_minigpt4 import MINIGPT4
from systems._texts import TEXTS
from systems._views import planned, stretched_pixels

from vistune.models.views import Square

POLICIES = {
    "v1_qformer": Square(224, "stretch", tokens=32),
    "v1_llama2": Square(224, "stretch", tokens=64),
    "v2": Square(448, "stretch", tokens=256),
}


def views(key: str, width: int, height: int) -> object:
    plans = {version: policy.plan(width, height) for version, policy in POLICIES.items()}
    return {
        "strategy": POLICIES["v2"].fit,
        "image_size_v1": plans["v1_qformer"].canvas[0].size,
        "image_size_v2": plans["v2"].canvas[0].size,
        "crops": [(0, 0, *plans["v2"].picture)],
        "visual_tokens": {version: plan.tokens for version, plan in plans.items()},
    }[key]


CHECKS = {
    "views": planned(views),
    "pixels": stretched_pixels(),
    **TEXTS["minigpt4"],
    **MINIGPT4,
}
