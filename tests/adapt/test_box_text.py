"""Box text round trips, and sides are named only when they are clear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.adapt.geometry import BINS, box_text, has_area_as_text, iou, parse_box_text, side_of

sizes = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))
fractions = st.tuples(*[st.floats(0, 1)] * 4)


def box_of(size, f):
    width, height = size
    (x1, x2), (y1, y2) = sorted((f[0], f[2])), sorted((f[1], f[3]))
    return (x1 * width, y1 * height, x2 * width, y2 * height)


@given(sizes, fractions)
def test_round_trip_is_within_half_a_bin(size, f):
    box = box_of(size, f)
    back = parse_box_text(box_text(box, *size), *size)
    for before, after, length in zip(box, back, (*size, *size), strict=True):
        assert abs(before - after) <= length / BINS / 2 * (1 + 1e-9)


@given(sizes, st.lists(st.integers(0, BINS), min_size=4, max_size=4))
def test_text_to_box_to_text_is_exact(size, numbers):
    text = "[{}, {}, {}, {}]".format(*numbers)
    assert box_text(parse_box_text(text, *size), *size) == text


@given(sizes, fractions)
def test_area_as_text_agrees_with_the_text(size, f):
    box = box_of(size, f)
    x1, y1, x2, y2 = (int(n) for n in box_text(box, *size)[1:-1].split(", "))
    assert has_area_as_text(box, *size) == (x1 < x2 and y1 < y2)


def test_corners_of_the_image():
    assert box_text((0, 0, 640, 480), 640, 480) == "[0, 0, 999, 999]"
    assert parse_box_text("[0, 0, 999, 999]", 640, 480) == (0, 0, 640, 480)


@pytest.mark.parametrize(
    "text", ["", "[]", "1, 2, 3, 4", "[1, 2, 3]", "[1, 2, 3, 1000]", "[1, 2, 3, -4]", "[1, 2, 3, 4.5]", "[a, 2, 3, 4]"]
)
def test_text_that_is_no_box(text):
    with pytest.raises(ValueError, match="expected"):
        parse_box_text(text, 100, 100)


@given(fractions, fractions)
def test_iou_is_symmetric_and_bounded(f, g):
    a, b = box_of((100, 100), f), box_of((100, 100), g)
    assert iou(a, b) == iou(b, a)
    assert 0 <= iou(a, b) <= 1 + 1e-12


def test_iou_of_a_box_with_itself_and_with_a_neighbour():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0


OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", None: None}


@given(fractions, fractions)
def test_sides_mirror(f, g):
    a, b = box_of((300, 200), f), box_of((300, 200), g)
    assert side_of(b, a, 300, 200) == OPPOSITE[side_of(a, b, 300, 200)]


@pytest.mark.parametrize(
    ("b", "expected"),
    [
        ((60, 40, 80, 60), "left"),
        ((0, 40, 20, 60), "right"),
        ((30, 70, 50, 90), "above"),
        ((30, 0, 50, 30), "below"),
        ((51, 40, 80, 60), None),  # apart by less than the margin
        ((45, 40, 80, 60), None),  # overlapping
        ((60, 70, 80, 90), None),  # diagonal
        ((60, 55, 80, 75), None),  # mostly diagonal: the spans share a quarter
    ],
)
def test_side_of(b, expected):
    assert side_of((30, 40, 50, 60), b, 100, 100) == expected
