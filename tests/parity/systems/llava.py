"""LLaVA v1 and v1.5."""

from systems._modules_llava import LLAVA
from systems._texts import TEXTS
from systems._views import draw, drawn, planned, square

from vistune.models.views import Square


def square_views(key: str, width: int, height: int) -> dict:
    """`crop_336`, `pad_336`"""
    fit, size = key.split("_")
    return square(Square(int(size), fit).plan(width, height))


def square_pixels(variant: str, picture) -> dict:
    """`square_336` (a centre crop), `pad_336`"""
    fit, size = variant.split("_")
    return {variant: draw(Square(int(size), "crop" if fit == "square" else fit), picture)[0]}


CHECKS = {
    "views": planned(square_views),
    "pixels": drawn(square_pixels),
    **LLAVA,
    **TEXTS["llava"],
}
