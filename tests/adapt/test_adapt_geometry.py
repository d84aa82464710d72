"""Boxes: their text, overlap, sides, extremes and the order of reading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.adapt.geometry import (
    BINS,
    EXTREMES,
    area,
    box_text,
    extreme,
    has_area_as_text,
    iou,
    parse_box_text,
    reading_order,
    side_of,
)
from vistune.boxcodec import NATIVE

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


@given(sizes, st.lists(st.integers(0, 4_000_000), min_size=4, max_size=4), st.sampled_from((1, 2, 100)))
def test_the_text_is_that_of_the_native_codec_to_the_last_tie(size, numbers, parts):
    """Boxes of whole, half and hundredth pixels, which fall on the middle between two bins as others hardly do."""
    x1, y1, x2, y2 = (n % (size[k % 2] * parts + 1) / parts for k, n in enumerate(numbers))
    box = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    text = box_text(box, *size)
    assert text == NATIVE.encode(box, *size)
    assert parse_box_text(text, *size) == NATIVE.decode(text, *size)


def test_a_tie_that_two_ways_of_rounding_once_told_apart():
    assert box_text((126, 283, 175, 468), 350, 1760) == "[360, 161, 500, 266]"  # 175 is the middle of 350


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


MIRRORED = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
boxes = st.lists(fractions.map(lambda f: box_of((300, 200), f)), min_size=2, max_size=6)


@given(boxes)
def test_extremes_mirror_and_turn_with_the_image(found):
    turned = [(300 - x2, 200 - y2, 300 - x1, 200 - y1) for x1, y1, x2, y2 in found]
    swapped = [(y1, x1, y2, x2) for x1, y1, x2, y2 in found]
    for side, other in MIRRORED.items():
        assert extreme(turned, other, 300, 200) == extreme(found, side, 300, 200)
    for side, other in (("left", "top"), ("right", "bottom")):
        assert extreme(swapped, other, 200, 300) == extreme(found, side, 300, 200)


@given(boxes)
def test_an_extreme_leads_all_others(found):
    for which in EXTREMES:
        first = extreme(found, which, 300, 200)
        if first is None:
            continue
        for n, box in enumerate(found):
            if n == first:
                continue
            lead = {
                "left": box[0] - found[first][0],
                "right": found[first][2] - box[2],
                "top": box[1] - found[first][1],
                "bottom": found[first][3] - box[3],
                "largest": area(found[first]) - 1.5 * area(box) + 1e-6,
                "smallest": area(box) - 1.5 * area(found[first]) + 1e-6,
            }[which]
            assert lead >= {"left": 9, "right": 9, "top": 6, "bottom": 6}.get(which, 0) - 1e-9


@pytest.mark.parametrize(
    ("which", "expected"), [("left", 0), ("right", 2), ("top", None), ("bottom", 1), ("largest", 1), ("smallest", None)]
)
def test_extreme(which, expected):
    found = [(0, 0, 20, 20), (30, 2, 90, 70), (95, 0, 100, 60)]
    assert extreme(found, which, 100, 100) == expected


def test_one_box_has_no_extreme():
    assert all(extreme([(0, 0, 9, 9)], which, 100, 100) is None for which in EXTREMES)


@given(st.permutations(range(6)))
def test_reading_order_is_by_lines_and_then_from_left_to_right(order):
    lines = [(0, 0, 40, 10), (50, 1, 90, 12), (100, -2, 140, 9), (0, 20, 40, 30), (60, 22, 80, 29), (10, 40, 50, 52)]
    assert [order[n] for n in reading_order([lines[n] for n in order])] == list(range(6))


@given(boxes)
def test_reading_order_is_a_permutation(found):
    assert sorted(reading_order(found)) == list(range(len(found)))
