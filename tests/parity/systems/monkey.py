"""Monkey."""

import re
from collections.abc import Iterator

from harness import Case, Fixture, same
from systems._modules_monkey import MONKEY
from systems._texts import TEXTS
from systems._views import boxes, compare, draw, drawn

from vistune.models.views_derived import monkey


def views(fixture: Fixture) -> Iterator[Case]:
    yield from compare(fixture, fixture.json["cases"], view_plan)
    for size, expected in fixture.json["policy"]["other_image_size"].items():
        height, width = (int(n) for n in re.match(r"(\d+)x(\d+)", size).groups())
        plan = monkey((width, height)).plan(800, 600)
        yield same(f"{fixture.name} image size {size}", boxes(plan), expected)


def view_plan(key: str, width: int, height: int) -> object:
    plan = monkey().plan(width, height)
    return {
        "resized_wh": plan.views[0].steps[0].size,
        "boxes": boxes(plan),
        "overview": {"position": "last", "resized_wh": plan.views[-1].size},
        "n_views": len(plan.views),
        "n_tokens": plan.tokens,
    }[key]


def window_pixels(variant: str, picture) -> dict:
    *windows, whole = draw(monkey(), picture)
    named = {"global": whole} | {f"window{n}": view for n, view in enumerate(windows)}
    return {variant: named[variant]}


CHECKS = {
    "views": views,
    "pixels": drawn(window_pixels),
    **MONKEY,
    **TEXTS["monkey"],
}
