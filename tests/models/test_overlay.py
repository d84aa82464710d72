"""Visual prompts drawn over pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vistune.errors import VistuneError
from vistune.models.overlay import COLORS, SHAPES, Draws, VisualPrompt, draw_prompt, name_prompt

BOX = (20, 30, 70, 60)
OUTLINE = [(20, 30), (70, 35), (60, 60), (25, 55)]


def grey(width=120, height=90):
    return Image.new("RGB", (width, height), (128, 128, 128))


def changed(before, after):
    """(height, width): where they differ."""
    return (np.array(before) != np.array(after)).any(-1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("polygons", [[], [OUTLINE], [OUTLINE, [(22, 32), (40, 34), (31, 49)]]], ids=len)
def test_every_shape_marks_the_picture_the_same_way_for_one_seed(shape, polygons):
    prompt = VisualPrompt(shape, BOX, COLORS["red"], polygons)
    first, again, other = (draw_prompt(grey(), prompt, Draws(seed)) for seed in (1, 1, 2))
    assert first.size == grey().size and first.mode == "RGB"
    assert changed(grey(), first).any() and not changed(first, again).any()
    assert changed(first, other).any()


def test_colour_is_blended_by_alpha():
    prompt = VisualPrompt("mask", BOX, (255, 0, 0), [OUTLINE], alpha=64)
    inside = np.array(draw_prompt(grey(), prompt, Draws(0)))[45, 45]
    assert np.abs(inside - np.array([128 + 127 / 4, 96, 96])).max() <= 1
    opaque = draw_prompt(grey(), VisualPrompt("mask", BOX, (255, 0, 0), [OUTLINE], alpha=255), Draws(0))
    assert tuple(np.array(opaque)[45, 45]) == (255, 0, 0)


def test_a_constant_rectangle_has_three_pixels_at_336():
    prompt = VisualPrompt("rectangle", (50, 50, 250, 200), COLORS["lime"], alpha=255, constant=True)
    mask = changed(grey(336, 300), draw_prompt(grey(336, 300), prompt, Draws(0)))
    assert mask[:, 150].sum() == 6 and mask[53, 53:247].sum() == 0


def test_lines_grow_with_the_picture():
    def width(scale):
        box = tuple(50 * scale * n for n in (1, 1, 5, 4))
        prompt = VisualPrompt("rectangle", box, COLORS["lime"], alpha=255, width=4)
        canvas = grey(336 * scale, 300 * scale)
        return changed(canvas, draw_prompt(canvas, prompt, Draws(0)))[:, 150 * scale].sum() // 2

    assert (width(1), width(2)) == (4, 8)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from(["triangle", "scribble", "mask", "rectangle"]))
def test_shapes_inside_the_region_stay_near_it(seed, shape):
    prompt = VisualPrompt(shape, BOX, COLORS["blue"], [OUTLINE], width=1)
    rows, columns = np.nonzero(changed(grey(), draw_prompt(grey(), prompt, Draws(seed))))
    assert columns.min() >= 17 and columns.max() <= 73 and rows.min() >= 27 and rows.max() <= 63


def test_a_point_without_outline_falls_into_the_box():
    prompt = VisualPrompt("point", BOX, COLORS["gold"], constant=True)
    rows, columns = np.nonzero(changed(grey(), draw_prompt(grey(), prompt, Draws(5))))
    assert 20 <= columns.mean() <= 70 and 30 <= rows.mean() <= 60
    with pytest.raises(VistuneError, match="needs a polygon"):
        draw_prompt(grey(), prompt, Draws(5), parity=True)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (VisualPrompt("star", BOX, (1, 2, 3)), "unknown visual prompt 'star'; known: rectangle"),
        (VisualPrompt("triangle", (5, 5, 5, 9), (1, 2, 3)), r"triangle cannot be drawn in \(5, 5, 5, 9\)"),
        (VisualPrompt("mask", BOX, (1, 2, 3), [[(1, 1), (2, 2)]]), "has 2 corners; it needs 3"),
        (VisualPrompt("scribble", BOX, (1, 2, 3), [[(1, 1), (2, 1), (3, 1)]]), "it has no area"),
    ],
)
def test_what_cannot_be_drawn(prompt, message):
    with pytest.raises(VistuneError, match=message):
        draw_prompt(grey(), prompt, Draws(0))


def test_names():
    assert name_prompt("point", "aqua") == "at the aqua point"
    assert name_prompt("mask contour") == "with the mask contour"
