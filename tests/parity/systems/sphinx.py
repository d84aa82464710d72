"""SPHINX."""

import re
from collections.abc import Iterator

from harness import Case, Fixture, same
from systems._modules_sphinx import SPHINX
from systems._texts import TEXTS
from systems._views import boxes, compare, draw, drawn

from vistune.models.views import CLIP_GREY, Pad, Square
from vistune.models.views_derived import sphinx, sphinx_light

VARIANTS = {
    "ens": sphinx(1),
    "ens5": sphinx(2),
    "ens10": sphinx(3),
    "ens5p2": sphinx(2, part_tokens=99),
    "ens5_light": sphinx_light(2),
    "ens_light": sphinx_light(1),
}


def views(fixture: Fixture) -> Iterator[Case]:
    yield from compare(fixture, fixture.json["cases"], view_plan)
    for variant, expected in fixture.json["view_boxes"].items():
        yield same(f"{fixture.name} {variant} boxes", boxes(VARIANTS[variant].plan(800, 600)), expected)


def view_plan(key: str, width: int, height: int) -> object:
    if key in VARIANTS:
        plan = VARIANTS[key].plan(width, height)
        found = {"input": plan.canvas[-1].size[0], "tokens": plan.tokens}
        return found if key in ("ens", "ens_light") else found | {"views": len(plan.layout)}
    first = VARIANTS["ens"].plan(width, height).canvas[0]
    pad = first if isinstance(first, Pad) else Pad((width, height), (0, 0), CLIP_GREY)
    return {"square_side": pad.canvas[0], "paste_xy": pad.at, "background": pad.fill}[key]


def part_pixels(variant: str, picture) -> dict:
    """`s448_2x2`: the padded square and its views."""
    size, parts = re.fullmatch(r"s(\d+)(?:_(\d+)x\d+)?", variant).groups()
    padded = {f"{variant}.padded_resize": draw(Square(int(size), "pad"), picture)[0]}
    if parts is None:
        return padded
    overview, *cuts = draw(sphinx(int(parts), int(size) // int(parts)), picture)
    named = {f"{variant}.part{n}": view for n, view in enumerate(cuts)}
    return padded | {f"{variant}.overview": overview} | named


CHECKS = {
    "views": views,
    "pixels": drawn(part_pixels),
    **TEXTS["sphinx"],
    **SPHINX,
}
