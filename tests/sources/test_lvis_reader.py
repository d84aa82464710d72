from typing import Any

import pytest

from vistune.errors import VistuneError
from vistune.records import Label
from vistune.sources import AnnotationFile

LVIS = AnnotationFile("lvis", "lvis_v1_val.json")


def _category(id: int, name: str, *synonyms: str) -> dict[str, Any]:
    return {
        "id": id,
        "name": name,
        "synonyms": [name, *synonyms],
        "synset": "x.n.01",
        "def": "a thing",
        "frequency": "f",
        "image_count": 1,
        "instance_count": 1,
    }


def _image(id: int, place: str, negative: list[int], partial: list[int]) -> dict[str, Any]:
    return {
        "id": id,
        "coco_url": f"http://images.cocodataset.org/{place}",
        "flickr_url": "http://farm1.staticflickr.com/1/1_1_z.jpg",
        "date_captured": "2013-11-14 17:02:52",
        "license": 4,
        "width": 40,
        "height": 30,
        "neg_category_ids": negative,
        "not_exhaustive_category_ids": partial,
    }


@pytest.fixture
def tree(corpus: Any) -> dict[str, Any]:
    corpus.images("val2017/000000000007.jpg", "train2017/000000000008.jpg")
    return {
        "info": {"version": "v1_0"},
        "images": [
            _image(7, "val2017/000000000007.jpg", [3, 4], [2]),
            _image(8, "train2017/000000000008.jpg", [], []),
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 1,
                "bbox": [2.0, 3.0, 10.0, 12.0],
                "area": 60.5,
                "segmentation": [[2.0, 3.0, 12.0, 3.0, 12.0, 15.0]],
            },
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 5, 5], "area": 20.0, "segmentation": []},
        ],
        "categories": [
            _category(1, "baseball_bat"),
            _category(2, "mouse_(computer_equipment)", "computer_mouse"),
            _category(3, "bow_(weapon)"),
            _category(4, "Band_Aid"),
            _category(5, "bow_(decorative_ribbons)", "bow_(decoration)"),
        ],
        "licenses": [{"id": 4, "name": "CC BY 2.0", "url": "http://creativecommons.org/licenses/by/2.0/"}],
    }


def _read(corpus: Any, tree: Any, **change: Any) -> list[Any]:
    corpus.write("lvis_v1_val.json", tree)
    return corpus.read(LVIS, **change)


def test_a_correct_file_is_read_whole(corpus: Any, tree: Any) -> None:
    first, second = _read(corpus, tree)
    assert not corpus.rejects
    assert (first.id, first.image.path) == ("d/7", "images/val2017/000000000007.jpg")
    assert second.image.path == "images/train2017/000000000008.jpg"  # LVIS val lies in both folders of COCO
    bat, mouse = first.objects
    assert (bat.id, bat.category.label, bat.box, bat.area) == ("1", "baseball bat", (2.0, 3.0, 12.0, 15.0), 60.5)
    assert bat.polygons == ((2.0, 3.0, 12.0, 3.0, 12.0, 15.0),)
    assert mouse.category.label == "computer mouse"
    assert [(x.id, x.category.label, x.present) for x in first.labels] == [
        ("7-3", "bow (weapon)", False),
        ("7-4", "Band Aid", False),
    ]
    assert first.complete == ("baseball bat",)  # the mouse is in not_exhaustive_category_ids
    assert second.complete == () and second.labels == ()
    assert first.vocabulary == () and first.licence == "CC BY 2.0"


def test_a_sense_is_kept_unless_a_synonym_of_its_own_says_it(corpus: Any, tree: Any) -> None:
    tree["categories"] += [_category(6, "bat_(animal)", "computer_mouse")]  # now two categories share the synonym
    tree["images"][0]["neg_category_ids"] = [3, 5, 6]
    first, _ = _read(corpus, tree)
    assert [x.category.label for x in first.labels] == ["bow (weapon)", "bow (decorative ribbons)", "bat (animal)"]
    assert first.objects[1].category.label == "mouse (computer equipment)"


def test_a_refused_object_is_no_longer_annotated_completely(corpus: Any, tree: Any) -> None:
    tree["annotations"][0]["bbox"] = [90.0, 3.0, 10.0, 12.0]
    assert _read(corpus, tree)[0].complete == ()
    assert corpus.reasons() == {"object/1": "box_outside"}


@pytest.mark.parametrize(("key", "value"), [("file_name", "val2017/000000000007.jpg"), ("image_pattern", "")])
def test_file_names_may_be_stated_or_follow_a_pattern(corpus: Any, tree: Any, key: str, value: str) -> None:
    del tree["images"][1]
    tree["images"][0]["coco_url"] = None
    if key == "file_name":
        tree["images"][0][key] = value
        assert len(_read(corpus, tree)) == 1
    else:
        assert len(_read(corpus, tree, image_pattern="val2017/{image_id:012d}.jpg")) == 1
    assert not corpus.rejects


@pytest.mark.parametrize(
    ("damage", "reasons"),
    [
        (lambda i: i.update(neg_category_ids=[3, 99]), {"label/7-99": "category_unknown"}),
        (lambda i: i.update(neg_category_ids=[3, 3]), {"label/7-3": "duplicate_id"}),
        (lambda i: i.update(neg_category_ids=[3, 1]), {"label/7-1": "label_contradicted"}),
        (lambda i: i.update(neg_category_ids=[3, None]), {"label/7-None": "row_malformed"}),
        (lambda i: i.update(neg_category_ids=3), {"label/7-absent": "row_malformed"}),
        (lambda i: i.update(neg_category_ids={"3": 1}), {"label/7-absent": "row_malformed"}),
        (lambda i: i.pop("neg_category_ids"), {}),
    ],
)
def test_bad_absences_are_rejected_and_the_others_kept(corpus: Any, tree: Any, damage: Any, reasons: Any) -> None:
    damage(tree["images"][0])
    first, _ = _read(corpus, tree)
    assert corpus.reasons() == reasons
    assert len(first.labels) == (1 if isinstance(tree["images"][0].get("neg_category_ids"), list) else 0)
    assert all(isinstance(x, Label) and x.category.label == "bow (weapon)" for x in first.labels)


@pytest.mark.parametrize("partial", [None, "2", [99], [[2]], {"2": 1}])
def test_an_image_that_does_not_say_what_is_partial_proves_no_number(corpus: Any, tree: Any, partial: Any) -> None:
    tree["images"][0]["not_exhaustive_category_ids"] = partial
    first, _ = _read(corpus, tree)
    assert first.complete == () and len(first.objects) == 2 and not corpus.rejects


@pytest.mark.parametrize("url", [None, 5, "", "000000000007.jpg", "http:///", "val2017/"])
def test_an_image_without_a_file_name_is_rejected_with_all_that_is_said_of_it(corpus: Any, tree: Any, url: Any) -> None:
    tree["images"][0]["coco_url"] = url
    assert [i.id for i in _read(corpus, tree)] == ["d/8"]
    assert corpus.reasons() == {
        "image/7": "row_malformed",
        "object/1": "image_unknown",
        "object/2": "image_unknown",
        "label/7-3": "image_unknown",
        "label/7-4": "image_unknown",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, "category 1 needs a name"),
        ({"name": "_"}, "category 1 needs a name"),
        ({"synonyms": "bat"}, "category 1 needs a list of synonyms"),
        ({"synonyms": [1]}, "category 1 needs a list of synonyms"),
        ({"id": 2}, "category id 2 is used twice"),
    ],
)
def test_a_bad_category_is_an_error_that_names_it(corpus: Any, tree: Any, change: Any, said: str) -> None:
    tree["categories"][0].update(change)
    with pytest.raises(VistuneError, match=rf"lvis_v1_val\.json: {said}"):
        _read(corpus, tree)
