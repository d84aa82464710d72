"""What the adapters share to check view plans and pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from harness import Case, Fixture, close, same
from PIL import Image
from torch import Tensor

from vistune.errors import VistuneError
from vistune.models.pixels import CLIP, Normaliser, pixels
from vistune.models.views import Crop, Pad, Policy, Resize, Square, ViewPlan

BYTES = Normaliser((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), white=1.0)
"""Leaves a picture as it is."""

Describe = Callable[[str, int, int], Any]


def planned(describe: Describe) -> Callable[[Fixture], Iterator[Case]]:
    """The check of `views.json`: of each picture size, what `describe(key, width, height)` says for each key."""

    def check(fixture: Fixture) -> Iterator[Case]:
        yield from compare(fixture, fixture.json["cases"], describe)

    return check


def compare(fixture: Fixture, cases: list[dict[str, Any]], describe: Describe) -> Iterator[Case]:
    for case in cases:
        if "in" in case:
            width, height, expected = case["in"]["w"], case["in"]["h"], case["out"]
        else:
            width, height = case["size"]
            expected = {key: value for key, value in case.items() if key != "size"}
        yield same(
            f"{fixture.name} {width}x{height}",
            {key: attempt(describe, key, width, height, value) for key, value in expected.items()},
            expected,
        )


def attempt(describe: Describe, key: str, width: int, height: int, expected: Any) -> Any:
    """What is described; where the original raised, that ours did too."""
    try:
        return describe(key, width, height)
    except VistuneError as error:
        raised = isinstance(expected, dict) and "error" in expected
        return expected if raised else {"error": str(error)}


def square(plan: ViewPlan) -> dict[str, Any]:
    """A plan of one square, in the words that LLaVA's kin share."""
    pad = next((step for step in plan.canvas if isinstance(step, Pad)), Pad(plan.picture, (0, 0), None))
    resized = next(step.size for step in plan.canvas if isinstance(step, Resize))
    crop = next((step for step in plan.canvas if isinstance(step, Crop)), Crop((0, 0, *resized)))
    left, top, right, bottom = crop.box
    return {
        "canvas_wh": pad.canvas,
        "paste_xy": pad.at,
        "fill_rgb": pad.fill,
        "resized_wh": resized,
        "crop_box": crop.box,
        "final_wh": (right - left, bottom - top),
        "n_views": 1,
        "n_tokens": plan.tokens,
    }


def boxes(plan: ViewPlan) -> list[tuple[int, int, int, int]]:
    """What is cut from the canvas, in the views' order."""
    return [view.steps[-1].box for view in plan.views if view.steps and isinstance(view.steps[-1], Crop)]


Make = Callable[[str, Image.Image], dict[str, Tensor]]


def drawn(make: Make) -> Callable[[Fixture], Iterator[Case]]:
    """The check of `pixels.json`: `make(variant, picture)` gives its views by name. Large ones are stored as a sample
    and sums. Sums are compared as means, since torch's interpolation rounds by the number of threads."""

    def check(fixture: Fixture) -> Iterator[Case]:
        for key in sorted(key for key in fixture.tensors if key.startswith("in.")):
            name = key.split(".")[1]
            picture = Image.fromarray(fixture.tensors[key].numpy())
            expected = fixture.under(f"out.{name}")
            stated = fixture.json["cases"][name] if "cases" in fixture.json else {}
            for variant in sorted({k.split(".")[0] for k in expected}):
                got = make(variant, picture)
                of_variant = {k: t for k, t in expected.items() if k.split(".")[0] == variant}
                for full, tensor in of_variant.items():
                    yield _compare(f"{fixture.name} {name} {full}", got, full, tensor, stated, fixture.tolerance)
                named = {k.removesuffix(".sample").removesuffix(".stats") for k in of_variant}
                yield same(f"{fixture.name} {name} {variant} views", sorted(got), sorted(named))

    return check


def _compare(
    where: str, views: dict[str, Tensor], full: str, expected: Tensor, stated: dict[str, Any], tolerance: tuple
) -> Case:
    view = views.get(full.removesuffix(".sample").removesuffix(".stats"))
    if view is None:
        return Case(where, False, float("inf"), "no such view")
    x = view.double()
    if full.endswith(".stats"):
        got = torch.stack([x.mean(), x.abs().mean(), x.min(), x.max()])
        return close(where, got, torch.cat([expected[:2] / view.numel(), expected[2:]]), tolerance)
    if full.endswith(".sample"):
        thinned = view[:, :: max(1, view.shape[1] // 8), :: max(1, view.shape[2] // 8)]
        return close(where, thinned, expected, tolerance)
    entry = stated.get(full)
    if entry is None:
        return close(where, view, expected, tolerance)
    kind = {"shape": list(view.shape), "dtype": str(view.dtype).removeprefix("torch.")}
    if kind != {key: entry[key] for key in kind}:
        return same(where, kind, {key: entry[key] for key in kind})
    sums = torch.tensor([entry[key] for key in ("sum", "abs_sum", "sq_sum")], dtype=torch.float64)
    means = close(where, torch.stack([x.mean(), x.abs().mean(), (x * x).mean()]), sums / view.numel(), tolerance)
    return close(where, view[_slices(entry["stored"])], expected, tolerance) if means.passed else means


def _slices(stored: str) -> tuple[Any, ...]:
    """`[..., ::16, ::16]` as an index."""
    if stored == "full":
        return (...,)
    parts = stored.strip("[]").split(", ")
    return tuple(... if part == "..." else slice(None, None, int(part.removeprefix("::"))) for part in parts)


def draw(policy: Policy, picture: Image.Image, normaliser: Normaliser = CLIP) -> list[Tensor]:
    return pixels(policy.plan(*picture.size), picture, normaliser)


def stretched_pixels() -> Callable[[Fixture], Iterator[Case]]:
    """`s224`: the whole picture at that size, whatever its shape."""
    return drawn(lambda variant, picture: {variant: draw(Square(int(variant[1:]), "stretch"), picture)[0]})
