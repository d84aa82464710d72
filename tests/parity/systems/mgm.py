"""Mini-Gemini (MGM and MGM-HD)."""

import re
from collections.abc import Iterator

from harness import Case, Fixture, same
from systems._modules_two import MGM
from systems._texts import TEXTS
from systems._views import boxes, compare, draw, drawn, square

from vistune.models.views_derived import mini_gemini

HD = 1536
"""The size of the large view that comes with four crops of the small one."""


def views(fixture: Fixture) -> Iterator[Case]:
    yield from compare(fixture, fixture.json["cases"], view_plan)
    plan = mini_gemini(HD, grid=2).plan(800, 600)
    yield same(f"{fixture.name} lr_boxes_hd", boxes(plan), fixture.json["policy"]["lr_boxes_hd"])


def view_plan(key: str, width: int, height: int) -> dict:
    fit, size = key.split("_")
    return square(mini_gemini(int(size), grid=2 if int(size) == HD else 1, fit=fit).plan(width, height))


def both_pixels(variant: str, picture) -> dict:
    """`pad_raw336_aux768_grid1`"""
    fit, low, high, grid = re.fullmatch(r"(\w+)_raw(\d+)_aux(\d+)_grid(\d+)", variant).groups()
    policy = mini_gemini(int(high), int(low), int(grid), "crop" if fit == "square" else fit)
    large, *small = draw(policy, picture)
    return {f"{variant}.hr": large, **{f"{variant}.lr{n}": view for n, view in enumerate(small)}}


CHECKS = {
    "views": views,
    "pixels": drawn(both_pixels),
    **MGM,
    **TEXTS["mgm"],
}
