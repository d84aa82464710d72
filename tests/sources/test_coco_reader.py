import gc
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.sources import FORMATS, AnnotationFile, Tally, coco
from vistune.sources.boxes import TOLERANCE, pixel_box
from vistune.sources.rows import Listing


def test_a_correct_file_is_read_whole(source: Any) -> None:
    first, second, third = source.read("coco_instances")
    assert not source.rejects
    assert [i.id for i in (first, second, third)] == ["pets/1", "pets/2", "pets/10"]  # numbers by value, not as text
    cat, sky = first.objects
    assert (cat.id, cat.category.label, cat.category.group, cat.category.name("zh")) == ("5", "cat", "animal", "猫")
    assert cat.box == (2.0, 3.0, 12.0, 15.0)
    assert (sky.thing, sky.box) == (False, (0.0, 0.0, 40.0, 30.0))
    assert third.objects[0].crowd
    assert first.things == (cat,) and third.things == ()
    assert first.licence == "CC BY 4.0"
    assert [f.path for f in first.files] == ["instances.json"] and len(first.files[0].sha256) == 64


def test_the_vocabulary_holds_things_only_and_is_shared(source: Any) -> None:
    first, second, _ = source.read()
    assert [c.label for c in first.vocabulary] == ["cat"]
    assert first.vocabulary is second.vocabulary


@pytest.mark.parametrize(
    ("bbox", "reason"),
    [
        ([39.5, 0, 2, 5], "box_outside"),
        ([-1.01, 0, 5, 5], "box_outside"),
        ([0, 28, 5, 3.1], "box_outside"),
        ([5, 5, 0, 5], "box_degenerate"),
        ([5, 5, 5, -5], "box_degenerate"),
        ([5, 5, float("nan"), 5], "box_degenerate"),
        ([5, 5, float("inf"), 5], "box_degenerate"),
        ([-1, 5, 0.5, 5], "box_degenerate"),  # nothing of it is in the image
        ([5, 5, 5], "box_degenerate"),
        ([5, "5", 5, 5], "box_degenerate"),
        ([5, True, 5, 5], "box_degenerate"),
        ("5,5,5,5", "row_malformed"),
    ],
)
def test_bad_boxes_are_rejected_and_the_others_kept(source: Any, bbox: Any, reason: str) -> None:
    source.instances["annotations"][0]["bbox"] = bbox
    images = source.read("coco_instances")
    assert source.reasons() == {"pets/object/5": reason}
    assert [o.id for o in images[0].objects] == ["6"]


def test_keys_that_other_tools_write_differently_are_taken(source: Any) -> None:
    first, second, third = source.instances["annotations"]
    first["attributes"] = ["striped", "asleep"]
    second["attributes"] = {"occluded": False}
    second["segmentation"] = [[0, 0, 1, 1, 2, 2]]
    third["iscrowd"] = True
    images = source.read("coco_instances")
    assert not source.rejects
    assert [o.attributes for o in images[0].objects] == [("striped", "asleep"), ()]
    assert images[2].objects[0].crowd


def test_a_box_that_leaves_the_image_by_a_pixel_is_clipped(source: Any) -> None:
    source.instances["annotations"][0]["bbox"] = [-1, -0.5, 42, 31.5]
    assert source.read("coco_instances")[0].objects[0].box == (0.0, 0.0, 40.0, 30.0)
    assert not source.rejects


pixels = st.floats(-20, 60, allow_nan=False)


@given(pixels, pixels, pixels, pixels, st.integers(1, 50), st.integers(1, 50))
def test_pixel_box_is_inside_or_refused_with_the_right_reason(
    x: float, y: float, w: float, h: float, width: int, height: int
) -> None:
    box, reason, detail = pixel_box([x, y, w, h], width, height)
    over = max(-x, -y, x + w - width, y + h - height)
    if box is None:
        has_area = x + w > x and y + h > y  # a width may vanish in the sum
        first_pixel = has_area and x >= 0 and y >= 0 and x + w <= 1 and y + h <= 1 and min(width, height) > 1
        refused = "box_outside" if has_area and over > TOLERANCE else "box_degenerate"
        assert reason == ("box_fraction" if first_pixel else refused)
        assert detail
        return
    assert not reason and w > 0 and h > 0 and over <= TOLERANCE
    assert 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
    for clipped, exact in zip(box, (x, y, x + w, y + h), strict=True):
        assert abs(clipped - exact) <= TOLERANCE
    if over <= 0:
        assert box == (x, y, x + w, y + h)


@pytest.mark.parametrize("box", [[0, 0, 1, 1], [0.25, 0.5, 0.5, 0.25], [0.0, 0.0, 0.004, 1.0]])
def test_fractions_of_the_image_are_no_pixels(box: list[float]) -> None:
    assert pixel_box(box, 640, 480)[1] == "box_fraction"
    assert pixel_box(box, 640, 480, "xywh_fraction")[1] == ""
    assert pixel_box([*box[:2], 1.5, 1.5], 640, 480)[1] == ""


@given(st.lists(st.one_of(st.none(), st.text(max_size=2), st.booleans(), st.floats(), st.integers()), max_size=6))
def test_pixel_box_never_raises(values: list[Any]) -> None:
    box, reason, _ = pixel_box(values, 30, 30)
    assert (box is None) == bool(reason)
    assert box is None or all(map(math.isfinite, box))


def _no_category(row: dict[str, Any]) -> None:
    del row["category_id"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda row: row.update(image_id=77), "image_unknown"),
        (lambda row: row.update(category_id=45), "category_unknown"),
        (lambda row: row.update(id=6), "duplicate_id"),
        (lambda row: row.update(id=None), "row_malformed"),
        (lambda row: row.update(image_id=[1]), "row_malformed"),
        (lambda row: row.update(id=True), "row_malformed"),
        (_no_category, "row_malformed"),
    ],
)
def test_bad_annotations_are_rejected(source: Any, damage: Any, reason: str) -> None:
    damage(source.instances["annotations"][0])
    source.read("coco_instances")
    assert list(source.reasons().values()) == [reason]
    assert source.tally.entered["object"] == 3 and source.tally.kept["object"] == 2


def test_rows_that_are_no_objects_are_rejected_by_position(source: Any) -> None:
    source.instances["annotations"].append("oops")
    source.captions["annotations"].append(["oops"])
    source.instances["images"].append(7)
    source.captions["images"] = source.captions["images"][:3]
    source.read("coco_instances", "coco_captions")
    assert source.reasons() == {
        "pets/object/#3": "row_malformed",
        "pets/caption/#2": "row_malformed",
        "pets/image/#3": "row_malformed",
    }


def test_captions_are_stripped_and_empty_ones_rejected(source: Any) -> None:
    source.captions["annotations"] += [
        {"id": 9, "image_id": 2, "caption": " \n"},
        {"id": 8, "image_id": 2, "caption": "Again."},
        {"id": 10, "image_id": 3, "caption": "Lost."},
        {"id": 11, "image_id": 10, "caption": "一只猫", "language": "zh"},
    ]
    images = source.read("coco_captions")
    assert images[0].captions[0].text == "A cat under the sky."
    assert images[2].captions[0].language == "zh"
    assert source.reasons() == {
        "pets/caption/9": "caption_empty",
        "pets/caption/8": "duplicate_id",
        "pets/caption/10": "image_unknown",
    }


def test_a_duplicate_image_is_rejected_once_and_the_first_kept(source: Any) -> None:
    source.instances["images"].append({**source.instances["images"][0], "file_name": "other.png"})
    assert len(source.read("coco_instances")) == 3
    assert source.reasons() == {"pets/image/1": "duplicate_id"}


def test_a_licence_that_is_not_listed_rejects_image_and_annotations(source: Any) -> None:
    for tree in (source.instances, source.captions):
        tree["images"] = [{**image, "license": 9} if image["id"] == 1 else image for image in tree["images"]]
    images = source.read("coco_instances", "coco_captions", licence="CC0", image_pattern="{image_id:03d}.png")
    assert [i.id for i in images] == ["pets/2", "pets/10"]
    assert source.reasons()["pets/image/1"] == "licence_unknown"
    assert sum(r.reason == "image_unknown" for r in source.rejects) == 3  # its two boxes and its caption


def test_licence_and_attribution_come_from_the_file_else_from_the_data_set(source: Any) -> None:
    del source.instances["images"][1]["license"]
    source.instances["images"][0]["attribution"] = "A. Photographer"
    first, second, _ = source.read("coco_instances", licence="CC0", attribution="Museum")
    assert (first.licence, first.attribution) == ("CC BY 4.0", "A. Photographer")
    assert (second.licence, second.attribution) == ("CC0", "Museum")


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ([], "expected an object with the key 'images'"),
        ({"annotations": []}, "expected a list under 'images'"),
        ({"images": [], "categories": []}, "expected a list under 'annotations'"),
        ({"images": [], "annotations": []}, "expected a list under 'categories'"),
        ({"images": {}, "annotations": [], "categories": []}, "expected a list under 'images'"),
        ({"images": [], "annotations": [], "categories": [{"name": "x"}]}, "every entry of 'categories' needs an id"),
        ({"images": [], "annotations": [], "categories": [{"id": 1}]}, "category 1 needs a name"),
        (
            {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]},
            "category id 1 is used twice",
        ),
    ],
)
def test_a_file_of_another_shape_is_an_error_that_names_it(source: Any, tree: Any, said: str) -> None:
    source.instances = tree
    with pytest.raises(VistuneError, match=r"instances\.json") as error:
        source.read("coco_instances")
    assert said in str(error.value)


MASK = {"size": [30, 40], "counts": [600, 100, 500]}

numbers = st.one_of(st.integers(-50, 90), st.floats(-50, 90))
annotations = st.fixed_dictionaries(
    {
        "id": st.one_of(st.integers(100, 103), st.just("b"), st.none()),
        "image_id": st.sampled_from([1, 2, 10, 77, "1"]),
        "category_id": st.sampled_from([44, 90, 45, "44"]),
        "bbox": st.lists(numbers, min_size=3, max_size=5),
        "area": st.one_of(numbers, st.just("9")),
        "iscrowd": st.sampled_from([0, 1, True, "0"]),
        "segmentation": st.one_of(
            st.lists(st.lists(numbers, max_size=8), max_size=2),
            st.just({"size": [30, 40], "counts": [600, 100, 500]}),
            st.none(),
        ),
    }
)


def _listed(path: Path, tree: dict[str, Any], at_once: bool) -> Any:
    """What a file gives if read at once where it can be, or key by key; of rows, in the order of the file."""
    format = "coco_instances" if "categories" in tree else "coco_captions"
    path.write_text(json.dumps(tree))
    with pytest.MonkeyPatch.context() as patch:
        if not at_once:
            patch.setattr(coco, "decode", lambda path, kind: None)
        listing = Listing("d", "adapt", [], Tally(), licence="CC0", attribution="Museum")
        listing.image("2", "2.png")  # an earlier file told of it
        FORMATS[format].read(path.parent, AnnotationFile(format, path.name), listing)
    kept = [(e.id, e.file, e.width, e.height, e.licence, e.attribution) for e in listing.images.values()]
    rows = [[(kind, str(rows)) for kind, rows in e.rows.items()] for e in listing.images.values()]
    return kept, rows, listing.rejects, listing.tally, list(listing.vocabulary), listing.refused


images = st.fixed_dictionaries(
    {"id": st.sampled_from([1, 2, 2, 10]), "file_name": st.sampled_from(["2.png", "2.png", "é.png"])},
    optional={
        "width": st.sampled_from([40, None, "40"]),
        "license": st.sampled_from([3, "3", 9, ""]),
        "attribution": st.sampled_from(["A. Photographer", "", None]),
    },
)
TABLES: dict[str, Any] = {
    "licenses": [{"id": 3, "name": "CC BY 4.0"}],
    "images": [{"id": n, "file_name": f"{n}.png", "width": 40, "license": 3} for n in (1, 2, 10)],
}
CATEGORIES = [{"id": 44, "name": "cat"}, {"id": 90, "name": "sky", "isthing": 0}]
good_annotations = st.fixed_dictionaries(
    {"id": st.integers(), "image_id": st.sampled_from([1, 2, 10]), "category_id": st.sampled_from([44, 90])}
    | {"bbox": st.lists(numbers, min_size=4, max_size=4)},
    optional={
        "area": st.one_of(st.integers(0, 99), st.floats(0, 99)),
        "iscrowd": st.sampled_from([0, 1, True]),
        "segmentation": st.one_of(st.lists(st.lists(numbers, min_size=6, max_size=6), max_size=2), st.just(MASK)),
        "attributes": st.sampled_from([[], ["red"], {"occluded": True}]),
    },
)


@given(st.lists(st.one_of(annotations, good_annotations), max_size=4))
def test_objects_read_at_once_and_key_by_key_give_the_same(tmp_path_factory: Any, rows: list[dict[str, Any]]) -> None:
    path, tree = tmp_path_factory.getbasetemp() / "boxes.json", TABLES | {"categories": CATEGORIES, "annotations": rows}
    quick = _listed(path, tree, True)
    assert quick == _listed(path, tree, False)
    assert quick[3].entered["object"] == len(rows)


@given(st.lists(images, max_size=4), st.lists(good_annotations, max_size=2))
def test_images_read_at_once_and_key_by_key_give_the_same(
    tmp_path_factory: Any, listed: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "images.json"
    tree = TABLES | {"categories": CATEGORIES, "annotations": rows, "images": listed}

    def result(at_once: bool) -> Any:
        try:
            return _listed(path, tree, at_once)
        except VistuneError as error:  # one image has two names
            return str(error)

    assert result(True) == result(False)


captions = st.fixed_dictionaries(
    {
        "id": st.one_of(st.integers(100, 103), st.just("b"), st.none()),
        "image_id": st.sampled_from([1, 2, 77, "1"]),
        "caption": st.one_of(st.text(max_size=5), st.sampled_from([" A  cat.\n", "猫", "\ud83d", 5])),
    }
)
good_captions = st.fixed_dictionaries(
    {"id": st.integers(), "image_id": st.sampled_from([1, 2, 10]), "caption": st.sampled_from([" A  cat.\n", "猫"])},
    optional={"language": st.sampled_from(["en", "zh"])},
)


@given(st.lists(st.one_of(captions, good_captions), max_size=4))
def test_captions_read_at_once_and_key_by_key_give_the_same(tmp_path_factory: Any, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.getbasetemp() / "captions.json"
    quick = _listed(path, TABLES | {"annotations": rows}, True)
    assert quick == _listed(path, TABLES | {"annotations": rows}, False)
    assert quick[3].entered["caption"] == len(rows)


def test_a_published_file_is_read_at_once(source: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(coco, "read_json", None)
    images = source.read("coco_instances", "coco_captions")
    assert len(images) == 3 and images[0].captions[0].text == "A cat under the sky." and not source.rejects


def test_reading_leaves_the_garbage_collector_as_it_was(source: Any) -> None:
    source.read("coco_instances")
    source.instances = []
    with pytest.raises(VistuneError):
        source.read("coco_instances")
    assert gc.isenabled() and not gc.get_freeze_count()
