"""What other models saw, in words and colours."""

import numpy as np
import pytest

from vistune.errors import VistuneError
from vistune.models import evidence


def painted(*rects: tuple[int, int, int, int]) -> np.ndarray:
    found = np.full((evidence.SIDE, evidence.SIDE), -1)
    for n, (left, top, right, bottom) in enumerate(rects, 1):
        found[top:bottom, left:right] = n
    return found


def test_a_segment_under_another_is_left_out():
    covered = painted((0, 0, 49, 49), (98, 98, 147, 147), (0, 0, 98, 98))
    names = ["wall-brick", "sky-other-merged", "dog"]
    found = evidence.segments(covered, names)
    assert evidence.objects(found) == (
        "The image includes bounding box coordinates and their objects: "
        "[0.20, 0.20, 0.30, 0.30] sky, and [0.00, 0.00, 0.20, 0.20] dog."
    )
    assert evidence.segments(covered, names, parity=True) == []
    assert len(evidence.segments(painted((0, 0, 9, 9)), ["dog"], parity=True)) == 1


def test_detections_below_the_threshold_are_left_out():
    found = evidence.detections([0.5, 0.49], [[0, 49, 245, 490]] * 2, ["cat", "dog"])
    assert evidence.objects(found).endswith("objects: [0.00, 0.10, 0.50, 1.00] cat.")
    assert evidence.objects([]) == ""


def scores(*best: float) -> np.ndarray:
    """Of three predicates, the first the surest."""
    return np.array([[1.0, score, 0.1, 0.2] for score in best])


def test_relations_come_surest_first_and_like_names_are_numbered():
    names, pairs, predicates = ["cat", "floor-wood", "cat"], [[0, 1], [2, 0], [1, 2]], ["on", "over", "beside"]
    found = evidence.relations(names, pairs, scores(0.85, 0.99, 0.5), predicates)
    assert found == ["cat (#2) is on cat (#1)", "cat (#1) is on floor-wood"]
    assert evidence.relations(names, pairs[:1], scores(0.85), predicates) == ["cat (#1) is on floor-wood"]
    assert evidence.relations(names, pairs[:1], scores(0.85), predicates, parity=True) == []
    assert evidence.relations([], [], np.zeros((0, 4)), predicates) == []


def test_evidence_keeps_the_place_of_a_reader_that_found_nothing():
    text = evidence.verbalised(read=evidence.lines([("EXIT", 0.9), ("x", 0.2)]))
    assert text == "   The image includes text descriptions: EXIT."


def test_lists_are_read_back():
    found = [((0.1, 0.2, 0.3, 0.4), "traffic light"), ((0.0, 0.0, 1.0, 1.0), "cat")]
    text = ", ".join(f"(#{n} {name}) {evidence.box_text(box)}" for n, (box, name) in enumerate(found, 1))
    assert evidence.listed(text) == [(list(box), name) for box, name in found]
    assert evidence.listed("(#1 cat) [0.1, 0.2]") == []
    with pytest.raises(VistuneError, match="1 names and 0 boxes"):
        evidence.listed("(#1 cat) [0.1, 0.2")


def test_colours_are_those_of_pascal():
    assert (evidence.colours(22) * 255).round().astype(int)[[0, 1, 2, 15, 20]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [192, 128, 128],
        [0, 64, 128],
    ]
    shown = evidence.colour_map(painted((0, 0, 2, 1)))
    assert shown[0, 1].tolist() == evidence.colours()[1].tolist() and shown[1, 1].sum() == 0


def test_the_open_vocabulary_is_whole():
    names = evidence.open_vocabulary()
    assert len(names) == 847 + 1000 and (names[0], names[847], names[-1]) == ("wall", "tench", "toilet paper")
