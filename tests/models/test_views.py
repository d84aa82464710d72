"""View plans: published counts, the arithmetic against other implementations, and what every plan must hold."""

import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.image_processing_utils import select_best_resolution
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from vistune.errors import VistuneError
from vistune.models import views_derived as derived
from vistune.models.views import Crop, Letterbox, Native, Pad, Resize, Square, Stitched
from vistune.models.views_slices import MINICPM_2, Slices, llava_uhd
from vistune.models.views_tiles import PINPOINTS, AnyRes, ClosestRatio, square_grids

POLICIES = {
    "crop": Square(336, "crop"),
    "pad": Square(336, "pad"),
    "stretch": Square(448, "stretch", tokens=256),
    "widen": Square(448, "widen", tokens=65),
    "letterbox": Letterbox(384),
    "native": Native(),
    "anyres": AnyRes(),
    "onevision": AnyRes(square_grids(6, 384), 384, most=9),
    "tiles": ClosestRatio(most=12),
    "slices": Slices(marks=MINICPM_2),
    "uhd": llava_uhd(),
    "monkey": derived.monkey(),
    "hr": derived.llava_hr(),
    "mgm": derived.mini_gemini(),
    "mgm-hd": derived.mini_gemini(1536, grid=2),
    "sphinx": derived.sphinx(1),
    "sphinx-1k": derived.sphinx(2),
    "sphinx-p2": derived.sphinx(2, part_tokens=99),
    "sphinx-tiny-1k": derived.sphinx_light(2),
    "deepseek": derived.deepseek_hybrid(),
    "cogagent": derived.cogagent(),
}

sides = st.integers(1, 5000)
photo_sides = st.integers(60, 4000)  # within Qwen2-VL's limit of ratios


@pytest.mark.parametrize(
    ("name", "width", "height", "tokens"),
    [
        ("anyres", 336, 336, 1176),
        ("anyres", 1280, 720, 1948),
        ("anyres", 448, 1344, 2376),
        ("onevision", 336, 336, 1485),
        ("onevision", 800, 600, 4725),
        ("onevision", 1536, 1536, 7371),
        ("tiles", 336, 336, 256),
        ("tiles", 800, 600, 3328),
        ("tiles", 1024, 512, 768),
        ("slices", 449, 448, 192),
        ("slices", 1344, 1344, 640),
        ("uhd", 336, 336, 144),
        ("uhd", 800, 600, 7 * 144),
        ("native", 1920, 1080, 2691),
        ("native", 20, 20, 4),
        ("monkey", 640, 480, 1280),
        ("hr", 640, 480, 1024),
        ("mgm", 640, 480, 576),
        ("mgm-hd", 640, 480, 2880),
        ("sphinx", 640, 480, 291),
        ("sphinx-1k", 640, 480, 1455),
        ("sphinx-p2", 640, 480, 687),
        ("sphinx-tiny-1k", 640, 480, 1295),
        ("deepseek", 640, 480, 576),
        ("cogagent", 640, 480, 258),
    ],
)
def test_published_token_counts(name, width, height, tokens):
    assert POLICIES[name].plan(width, height).tokens == tokens


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=25, deadline=None)
@given(width=photo_sides, height=photo_sides)
def test_every_plan_holds_together(name, width, height):
    plan = POLICIES[name].plan(width, height)
    assert plan.picture == (width, height)
    indices = [part for part in plan.layout if isinstance(part, int)]
    maps = [part for part in plan.layout if isinstance(part, Stitched)]
    assert sorted(indices) == [n for n, view in enumerate(plan.views) if view.tokens], "each once, in some order"
    assert plan.tokens == sum(plan.views[n].tokens for n in indices) + sum(m.rows * (m.columns + 1) for m in maps)
    for view in plan.views:
        size = run(plan.picture, view.steps if view.whole else plan.canvas + view.steps)
        assert size == view.size
        assert min(view.patches) >= 1


def run(size, steps):
    """The size after the steps; each must fit into what it is given."""
    for step in steps:
        if isinstance(step, Crop):
            left, top, right, bottom = step.box
            assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
            size = (right - left, bottom - top)
        elif isinstance(step, Pad):
            assert all(at >= 0 and at + side <= room for at, side, room in zip(step.at, size, step.canvas, strict=True))
            size = step.canvas
        else:
            size = step.size
    return size


@pytest.mark.parametrize("name", ["anyres", "onevision", "tiles", "slices", "uhd"])
@settings(max_examples=25, deadline=None)
@given(width=sides, height=sides)
def test_tiles_cover_the_canvas_once(name, width, height):
    plan = POLICIES[name].plan(width, height)
    if plan.grid is None:
        return
    canvas = run(plan.picture, plan.canvas)
    boxes = [view.steps[0].box for view in plan.views if not view.whole]
    assert len(boxes) == math.prod(plan.grid) == len(set(boxes))
    assert sum((right - left) * (bottom - top) for left, top, right, bottom in boxes) == math.prod(canvas)
    assert boxes == sorted(boxes, key=lambda box: (box[1], box[0])), "row by row"


@settings(max_examples=100, deadline=None)
@given(width=sides, height=sides)
def test_anyres_plans_as_transformers(width, height):
    plan = AnyRes(transformers=True).plan(width, height)
    canvas = select_best_resolution((height, width), PINPOINTS)
    assert plan.canvas[1].canvas == canvas[::-1]
    side = AnyRes().size // AnyRes().patch
    features, newlines = LlavaNextProcessor._get_unpadded_features(
        SimpleNamespace(), height, width, side, side, plan.grid[1], plan.grid[0]
    )
    assert plan.tokens == side * side + features + newlines


@settings(max_examples=100, deadline=None)
@given(width=sides, height=sides)
def test_anyres_takes_the_canvas_that_a_full_search_takes(width, height):
    for policy in (POLICIES["anyres"], POLICIES["onevision"]):
        best, kept, least = None, 0, math.inf
        for across, down in policy.canvases:
            scale = min(across / width, down / height)
            effective = min(int(width * scale) * int(height * scale), width * height)
            if effective > kept or (effective == kept and across * down - effective < least):
                best, kept, least = (across, down), effective, across * down - effective
        assert policy.plan(width, height).canvas[1].canvas == (best or policy.canvases[0])


@settings(max_examples=100, deadline=None)
@given(width=sides, height=sides, most=st.integers(1, 40), data=st.data())
def test_closest_ratio_takes_the_grid_that_transformers_takes(width, height, most, data):
    least = data.draw(st.integers(1, most))
    plan = ClosestRatio(least=least, most=most).plan(width, height)
    assert plan.grid == get_optimal_tiled_canvas((height, width), (448, 448), least, most)
    assert len(plan.views) == math.prod(plan.grid) + (plan.grid != (1, 1))


@settings(max_examples=100, deadline=None)
@given(width=photo_sides, height=photo_sides, least=st.integers(1, 1024), more=st.integers(0, 20000))
def test_native_resizes_as_transformers(width, height, least, more):
    limits = least * 784, (least + more) * 784
    plan = Native(*limits, transformers=True).plan(width, height)
    assert plan.views[0].size[::-1] == smart_resize(height, width, min_pixels=limits[0], max_pixels=limits[1])


def test_ties_below_336_pixels_fall_to_the_first_canvas():
    assert AnyRes().plan(300, 200).grid == (1, 2)
    assert AnyRes(transformers=True).plan(300, 200).grid == (2, 1)


def test_larger_of_equally_close_grids_only_with_enough_pixels():
    assert ClosestRatio(most=12).plan(400, 400).grid == (1, 1)
    assert ClosestRatio(most=12).plan(1024, 1024).grid == (3, 3)


def test_native_keeps_one_unit_of_a_thin_side():
    assert Native().plan(13, 300).views[0].size == (28, 308)
    assert Native(transformers=True).plan(13, 300).views[0].size == (28, 280)


def test_uhd_evaluation_enlarges_small_pictures():
    assert llava_uhd().plan(336, 336).grid is None
    plan = llava_uhd(long_side=1024).plan(336, 336)
    assert plan.canvas[0] == Resize((1024, 1024)) and plan.grid == (3, 2)
    assert plan.layout == (0, ",", 1, ",", 2, "\n", 3, ",", 4, ",", 5, "\n", 6)


def test_minicpm_layout():
    two_rows = POLICIES["slices"].plan(800, 600).layout
    assert "".join(str(part) for part in two_rows) == (
        "<image>0</image><slice><image>1</image><image>2</image>\n<image>3</image><image>4</image></slice>"
    )
    assert Slices().plan(800, 600).layout[3:6] == ("<slice>", 1, "</slice>")
    assert Slices().plan(100, 100).layout == ("<image>", 0, "</image>")


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-3, 5)])
def test_no_picture_without_area(name, size):
    with pytest.raises(VistuneError, match=f"{size[0]}x{size[1]}"):
        POLICIES[name].plan(*size)


@pytest.mark.parametrize(
    ("policy", "size", "message"),
    [
        (Native(), (500, 1), "500x1 pixels differ 500.0 times; the limit is 200"),
        (llava_uhd(long_side=1024), (1, 3000), r"0x1024 pixels \(resized from 1x3000\) has no views"),
        (llava_uhd(area=6), (2_000_000, 1), r"resized from 2000000x1"),
    ],
)
def test_pictures_too_thin_for_a_rule(policy, size, message):
    with pytest.raises(VistuneError, match=message):
        policy.plan(*size)


def test_plans_need_neither_torch_nor_pictures():
    code = (
        "import sys; from vistune.models import views, views_derived, views_slices, views_tiles; "
        "print(*({'torch', 'transformers', 'PIL', 'numpy'} & sys.modules.keys()))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []
