"""What a segment covers: polygons and masks of objects, and segments of a panoptic file."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.sources import AnnotationFile
from vistune.sources.boxes import pixel_polygon

MASK = {"size": [30, 40], "counts": [600, 100, 500]}


def test_polygons_and_areas_are_read_and_corners_follow_the_box_into_the_image(source: Any) -> None:
    first, second, third = source.instances["annotations"]
    first.update(segmentation=[[2, 3, 12.5, 3, 12, 15], [-1, 40, 41, 31, 0.5, 0]], area=77.25)
    second.update(segmentation=MASK, area=100)
    third.update(segmentation={"size": [30, 40], "counts": "PPYo0d0e?O1"}, area=4.0)
    cat, sky, crowd = [o for image in source.read("coco_instances") for o in image.objects]
    assert not source.rejects
    assert cat.polygons == ((2.0, 3.0, 12.5, 3.0, 12.0, 15.0), (0.0, 30.0, 40.0, 30.0, 0.5, 0.0))
    assert (cat.area, sky.area, crowd.area) == (77.25, 100.0, 4.0)
    assert sky.polygons == crowd.polygons == () and crowd.crowd and sky.box == (0.0, 0.0, 40.0, 30.0)


def test_an_outline_of_a_point_or_a_line_is_dropped_and_counted(source: Any) -> None:
    source.instances["annotations"][0].update(segmentation=[[1, 1, 5, 5], [1, 1, 5, 5, 1, 5], []], iscrowd=0, area=9.0)
    assert source.read("coco_instances")[0].objects[0].polygons == ((1.0, 1.0, 5.0, 5.0, 1.0, 5.0),)
    assert not source.rejects and source.tally.mended == {"outline_dropped": 1}


@pytest.mark.parametrize(
    "found",
    [
        "polygon",
        5,
        True,
        [[1, 1, 5, 5, 1]],
        [[1, 1, 5, 5, 1, "5"]],
        [[1, 1, 5, 5, 1, None]],
        [[1, 1, 5, 5, 1, float("nan")]],
        [[1, 1, 5, 5, 1, float("-inf")]],
        [[1, 1, 5, 5, 1, 10**400]],
        [[[1, 1], [5, 5], [1, 5]]],
        [1, 1, 5, 5, 1, 5],
        ["111555"],
        [{"a": 1}],
        {},
        {"size": [30, 40]},
        {"counts": [1200]},
        {"size": [30], "counts": [1200]},
        {"size": [30, -40], "counts": [1200]},
        {"size": [30, True], "counts": [30]},
        {"size": [30, 40], "counts": [600, 100, 400]},
        {"size": [30, 40], "counts": [1300, -100]},
        {"size": [30, 40], "counts": [600.0, 600]},
        {"size": [30, 40], "counts": ""},
        {"size": [30, 40], "counts": None},
    ],
)
@pytest.mark.parametrize("usual", [True, False])
def test_malformed_segmentations_are_rejected(source: Any, found: Any, usual: bool) -> None:
    """Whether the row is otherwise just as COCO publishes it, and so read at once, or key by key."""
    source.instances["annotations"][0].update(segmentation=found, area=9.0)
    source.instances["annotations"][0].update({} if usual else {"attributes": []})
    images = source.read("coco_instances")
    assert source.reasons() == {"pets/object/5": "row_malformed"}
    assert "segmentation" in source.rejects[0].detail and [o.id for o in images[0].objects] == ["6"]


@pytest.mark.parametrize("area", [-1, -0.5, float("nan"), float("inf"), "9", [9], True])
def test_malformed_areas_are_rejected(source: Any, area: Any) -> None:
    source.instances["annotations"][0].update(segmentation=[[1, 1, 5, 5, 1, 5]], area=area)
    source.read("coco_instances")
    assert source.reasons() == {"pets/object/5": "row_malformed"}
    assert "area" in source.rejects[0].detail


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=40), st.integers(1, 5000), st.integers(1, 5000))
def test_corners_stay_in_the_image_and_those_inside_stay_where_they_are(
    points: list[float], width: int, height: int
) -> None:
    placed = pixel_polygon(points, width, height)
    assert len(placed) == len(points)
    for n, (before, after) in enumerate(zip(points, placed, strict=True)):
        side = (width, height)[n % 2]
        assert after == before if 0 <= before <= side else after in (0.0, float(side))


def _panoptic() -> dict[str, Any]:
    segments = [
        {"id": 3226956, "category_id": 1, "area": 120, "bbox": [2, 3, 10, 12], "iscrowd": 0},
        {"id": 6979964, "category_id": 149, "area": 600, "bbox": [0, 0, 40, 15], "iscrowd": 0},
    ]
    crowd = {"id": 3226956, "category_id": 1, "area": 50, "bbox": [1, 1, 9, 9], "iscrowd": 1}
    return {
        "images": [
            {"id": 7, "file_name": "7.jpg", "width": 40, "height": 30, "license": 1},
            {"id": 8, "file_name": "8.jpg", "width": 40, "height": 30, "license": 1},
        ],
        "annotations": [
            {"segments_info": segments, "file_name": "7.png", "image_id": 7},
            {"segments_info": [crowd], "file_name": "8.png", "image_id": 8},
        ],
        "categories": [
            {"id": 1, "name": "person", "supercategory": "person", "isthing": 1, "color": [220, 20, 60]},
            {"id": 149, "name": "grass-merged", "supercategory": "plant", "isthing": 0, "color": [152, 251, 152]},
        ],
        "licenses": [{"id": 1, "name": "CC BY-NC 2.0", "url": "http://creativecommons.org/licenses/by-nc/2.0/"}],
    }


PANOPTIC = AnnotationFile("coco_panoptic", "panoptic.json")


def test_panoptic_segments_are_things_and_background(corpus: Any) -> None:
    corpus.images("7.jpg", "8.jpg")
    corpus.write("panoptic.json", _panoptic())
    first, second = corpus.read(PANOPTIC)
    assert not corpus.rejects
    person, grass = first.objects
    assert (person.id, person.box, person.area, person.thing) == ("7-3226956", (2.0, 3.0, 12.0, 15.0), 120.0, True)
    assert (grass.category.label, grass.thing) == ("grass", False)
    (crowd,) = second.objects  # its id, a colour of the mask, occurs in the other image too
    assert (crowd.id, crowd.crowd) == ("8-3226956", True)
    assert [c.label for c in first.vocabulary] == ["person"] and first.licence == "CC BY-NC 2.0"


@pytest.mark.parametrize(
    ("name", "isthing", "label"),
    [
        ("wall-brick", 0, "brick wall"),
        ("sky-other-merged", 0, "sky"),
        ("window-blind", 0, "window blind"),
        ("door-stuff", 0, "door"),
        ("playingfield", 0, "playingfield"),
        ("other", 0, "other"),
        ("x-ray", 1, "x-ray"),
    ],
)
def test_names_of_background_are_words(corpus: Any, name: str, isthing: int, label: str) -> None:
    tree = _panoptic()
    tree["categories"][1].update(name=name, isthing=isthing)
    corpus.images("7.jpg", "8.jpg")
    corpus.write("panoptic.json", tree)
    assert corpus.read(PANOPTIC)[0].objects[1].category.label == label


@pytest.mark.parametrize(
    ("damage", "key", "reason"),
    [
        (lambda rows: rows[0].update(segments_info=None), "object/7-segments", "row_malformed"),
        (lambda rows: rows[0].update(segments_info={}), "object/7-segments", "row_malformed"),
        (lambda rows: rows.append("oops"), "object/#3", "row_malformed"),
        (lambda rows: rows[1]["segments_info"].append(5), "object/#3", "row_malformed"),
        (lambda rows: rows[1].update(image_id=9), "object/9-3226956", "image_unknown"),
        (lambda rows: rows[1].update(image_id=7), "object/7-3226956", "duplicate_id"),
        (lambda rows: rows[1]["segments_info"][0].update(category_id=2), "object/8-3226956", "category_unknown"),
        (lambda rows: rows[1]["segments_info"][0].pop("bbox"), "object/8-3226956", "row_malformed"),
        (lambda rows: rows[1]["segments_info"][0].update(bbox=[30, 3, 20, 5]), "object/8-3226956", "box_outside"),
    ],
)
def test_bad_segments_are_rejected(corpus: Any, damage: Any, key: str, reason: str) -> None:
    tree = _panoptic()
    damage(tree["annotations"])
    corpus.images("7.jpg", "8.jpg")
    corpus.write("panoptic.json", tree)
    assert len(corpus.read(PANOPTIC)) == 2
    assert corpus.reasons() == {key: reason}
