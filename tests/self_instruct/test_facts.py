from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.records import Annotation, Category
from vistune.self_instruct import facts
from vistune.self_instruct.facts import Facts, extreme, largest, place, relation


def test_absent_names_are_akin_to_nothing_shown(make):
    image = make(1, [("penguin", (0, 0, 50, 50)), ("red apple", (60, 0, 90, 50)), ("taxi", (100, 100, 200, 200))])
    gone = Facts(image).absent
    assert "green apple" not in gone  # shares a word with the red one
    assert "bird" not in gone  # a penguin is one
    assert "penguin" not in gone and "taxi" not in gone
    assert {"cat", "owl", "bus", "scissors"} <= set(gone)


def test_absence_needs_a_vocabulary_and_respects_captions(make):
    image = make(1, [("cat", (0, 0, 50, 50))], captions=["A cat beside two owls."])
    assert "owl" not in Facts(image).absent
    assert Facts(make(1, [("cat", (0, 0, 50, 50))], vocabulary=())).absent == {}


def test_counts_leave_out_what_is_not_plain(make):
    image = make(1, [("cat", (0, 0, 9, 9)), ("black cat", (20, 0, 29, 9)), ("dog", (40, 0, 49, 9))])
    assert Facts(image).counts == {"black cat": 1, "dog": 1}  # "how many cats" has two answers
    assert Facts(image).tally == {"cat": 1, "black cat": 1, "dog": 1}
    crowd = Annotation("x", Category("ant", "animal-bug"), (100.0, 100.0, 200.0, 200.0), crowd=True)
    crowded = make(2, [("ant", (0, 0, 9, 9)), ("dog", (40, 0, 49, 9))])
    crowded = Facts(replace(crowded, objects=(*crowded.objects, crowd)))
    assert crowded.tally == crowded.counts == {"dog": 1}
    assert crowded.number("ant") is None


def test_background_is_one_named_color(make):
    assert Facts(make(1, [("cat", (0, 0, 9, 9))], "pink")).background == "pink"
    assert Facts(make(1, [("cat", (0, 0, 9, 9))], "")).background == ""


@pytest.mark.parametrize(
    "box, cell",
    [
        ((0, 0, 10, 10), "top left"),
        ((45, 0, 55, 10), "top"),
        ((90, 45, 100, 55), "right"),
        ((40, 40, 60, 60), "centre"),
        ((0, 80, 10, 100), "bottom left"),
    ],
)
def test_place(box, cell):
    assert place(box, 100, 100) == cell


boxes = st.tuples(*[st.integers(0, 90)] * 2, *[st.integers(1, 60)] * 2).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)


@given(boxes, boxes)
def test_relation_is_strict_and_symmetric(a, b):
    found, back = relation(a, b), relation(b, a)
    assert back == facts.OPPOSITE.get(found, "")
    apart = {"left of": a[2] <= b[0], "right of": a[0] >= b[2], "above": a[3] <= b[1], "below": a[1] >= b[3]}
    assert found == "" or apart[found]


@given(st.lists(boxes, max_size=6))
def test_extremes_are_unique(many):
    for side, better in (("left", min), ("right", max)):
        i = extreme(many, side, 150, 150)
        if i is not None:
            centres = [facts.centre(b)[0] for b in many]
            assert centres[i] == better(centres) and centres.count(centres[i]) == 1
    i = largest(many)
    if i is not None:
        sizes = sorted(map(facts.area, many))
        assert facts.area(many[i]) == sizes[-1] >= facts.LARGER * sizes[-2]
