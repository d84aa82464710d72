"""LLaVA-HR."""

from systems._modules_two import LLAVA_HR
from systems._texts import TEXTS
from systems._views import draw, drawn, planned, square

from vistune.models.views import Square
from vistune.models.views_derived import llava_hr


def views(key: str, width: int, height: int) -> dict:
    fit, size = key.split("_")
    return square(llava_hr(int(size), fit).plan(width, height))


def slow_pixels(variant: str, picture) -> dict:
    """`square_1024` (a centre crop), `pad_1024`: the large view, which is stored alone."""
    fit, size = variant.split("_")
    return {variant: draw(Square(int(size), "crop" if fit == "square" else fit, patch=32), picture)[0]}


CHECKS = {
    "views": planned(views),
    "pixels": drawn(slow_pixels),
    **LLAVA_HR,
    **TEXTS["llava_hr"],
}
