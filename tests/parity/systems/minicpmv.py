"""MiniCPM-V 2.0, 2.5 and 2.6."""

from collections.abc import Iterator

from harness import Case, Fixture
from systems._modules_minicpmv import MINICPMV
from systems._texts import TEXTS
from systems._views import boxes, compare, draw, drawn

from vistune.models.pixels import HALF, patch_strip
from vistune.models.views import ViewPlan
from vistune.models.views_slices import MINICPM_2, MINICPM_26, Slices

QUERIES = {"v20": 64, "v25": 96, "v26": 64}


def views(fixture: Fixture) -> Iterator[Case]:
    yield from compare(fixture, fixture.json["cases"], lambda *size: view_plan(9, *size))
    for case in fixture.json["other_max_slices"]:
        most = case["in"]["max_slice_nums"]
        for compared in compare(fixture, [case], lambda *size, most=most: view_plan(most, *size)):
            yield Case(f"{compared.name} max {most}", compared.passed, compared.difference, compared.detail)


def view_plan(most: int, key: str, width: int, height: int) -> object:
    plan = Slices(most=most, marks=MINICPM_26).plan(width, height)
    overview, *slices = plan.views
    return {
        "overview": lambda: overview.size,
        "grid_cols_rows": lambda: plan.grid,
        "refine": lambda: plan.canvas[-1].size if plan.grid else None,
        "slice": lambda: slices[0].size if plan.grid else None,
        "boxes": lambda: boxes(plan),
        "rows_x_cols_of_patches_list": lambda: plan.grid[::-1],
        "n_images": lambda: len(plan.views),
        "order": lambda: "overview first, then slices row-major",
        "tgt_sizes": lambda: [view.patches for view in plan.views],
        "visual_tokens": lambda: {
            version: Slices(most=most, tokens=queries).plan(width, height).tokens
            for version, queries in QUERIES.items()
        },
        "placeholder_v20_v25": lambda: text(Slices(most=most, marks=MINICPM_2).plan(width, height)),
        "placeholder_v26": lambda: "<image_id>0</image_id>" + text(plan),
        "placeholder_v26_no_id": lambda: text(plan),
    }[key]()


def text(plan: ViewPlan) -> str:
    """With one placeholder for each view."""
    return "".join(part if isinstance(part, str) else "<unk>" for part in plan.layout)


def slice_pixels(variant: str, picture) -> dict:
    """`scale28`: slices of 28 squared pixels."""
    drawn_views = draw(Slices(int(variant.removeprefix("scale"))), picture, HALF)
    named = {f"{variant}.img{n}": view for n, view in enumerate(drawn_views)}
    return named | {f"{variant}.reshape_by_patch0": patch_strip(drawn_views[0])}


CHECKS = {
    "views": views,
    "pixels": drawn(slice_pixels),
    **TEXTS["minicpmv"],
    **MINICPMV,
}
