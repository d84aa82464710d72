"""Formats read through datumaro, which has an environment of its own: `make formats` runs these tests in it."""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.records import Category
from vistune.sources import AnnotationFile, parse_source

needs_datumaro = pytest.mark.skipif(importlib.util.find_spec("datumaro") is None, reason="`make formats` runs it")

VOC = """<annotation><filename>{name}.jpg</filename><size><width>40</width><height>30</height><depth>3</depth></size>
{objects}</annotation>"""
BOX = """<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax>
<ymax>{3}</ymax></bndbox></object>"""


def test_without_the_package_the_error_says_how_to_install_it(corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "datumaro"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "datumaro", None)
    corpus.write("voc/Annotations/1.xml", VOC)
    with pytest.raises(VistuneError, match=r"pip install 'vistune\[formats\]'"):
        corpus.read(AnnotationFile("datumaro", "voc"))


def test_the_name_of_a_format_is_no_file(corpus: Any) -> None:
    (corpus.root / "folder").mkdir()
    found = parse_source(f"datumaro:{corpus.root}/folder,annotations=voc")
    assert found.files == (AnnotationFile("datumaro", f"{corpus.root}/folder", "voc"),)
    assert found.images == f"{corpus.root}/folder"


def _coco(corpus: Any, annotations: list[dict[str, Any]]) -> None:
    names = ["1.jpg", "2.jpg"]
    for name in names:
        corpus.images(f"train/{name}")
    tree = {
        "images": [{"id": 7 + n, "file_name": name, "width": 40, "height": 30} for n, name in enumerate(names)],
        "categories": [
            {"id": 44, "name": "cat", "supercategory": "animal"},
            {"id": 3, "name": "traffic light", "supercategory": "outdoor"},
        ],
        "annotations": annotations,
    }
    corpus.write("annotations/instances_train.json", tree)


def _annotation(id: int, image: int, box: list[float], category: int = 44, crowd: int = 0) -> dict[str, Any]:
    x, y, width, height = box
    outline = [x, y, x + width, y, x + width, y + height, x, y + height]
    half = [x, y, x + width / 2, y, x, y + height]
    segmentation: Any = [outline, half] if id % 2 else [outline]
    if crowd:
        counts = [round(x) * 30 + round(y), 5, 30 * 40 - (round(x) * 30 + round(y)) - 5]
        segmentation = {"counts": counts, "size": [30, 40]}
    return {
        "id": id,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": width * height,
        "iscrowd": crowd,
        "segmentation": segmentation,
    }


PLACE = st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(4, 20), st.integers(4, 20)).map(
    lambda numbers: [n / 2 for n in numbers]
)


def _both(corpus: Any) -> tuple[list[Any], list[Any]]:
    ours = corpus.read(AnnotationFile("coco_instances", "annotations/instances_train.json"), images="images/train")
    assert not corpus.rejects
    theirs = corpus.read(AnnotationFile("datumaro", "."), images=".")
    assert not corpus.rejects
    return ours, theirs


@needs_datumaro
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(PLACE, st.sampled_from([7, 8]), st.sampled_from([44, 3])), max_size=8))
def test_its_coco_and_ours_give_the_same_objects(corpus: Any, drawn: list[Any]) -> None:
    """Datumaro gives a box and every polygon of an object as annotations of their own; read, they are one object."""
    rows = [_annotation(n + 1, image, box, kind) for n, (box, image, kind) in enumerate(drawn)]
    _coco(corpus, [*rows, _annotation(99, 8, [10, 10, 1, 5], crowd=1)])
    ours, theirs = _both(corpus)
    assert [i.image.path.rpartition("/")[2] for i in ours] == [i.image.path.rpartition("/")[2] for i in theirs]
    assert sum(len(i.objects) for i in theirs) == len(drawn) + 1
    for one, other in zip(ours, theirs, strict=True):
        assert {o.id: o.category for o in one.objects} == {o.id: o.category for o in other.objects}
        assert {o.id: o.box for o in one.objects} == {o.id: o.box for o in other.objects}
        assert {o.id: o.crowd for o in one.objects} == {o.id: o.crowd for o in other.objects}
        assert {o.id: o.polygons for o in one.objects} == {o.id: o.polygons for o in other.objects}
        assert sorted(one.vocabulary, key=str) == sorted(other.vocabulary, key=str)
        assert one.image.sha256 == other.image.sha256


@needs_datumaro
def test_voc_counts_pixels_from_one(corpus: Any, gathered: Callable[..., Any]) -> None:
    for name in ("1", "2", "3"):
        corpus.images(f"../voc/JPEGImages/{name}.jpg")
    whole = BOX.format(1, 1, 40, 30, label="cat")
    corpus.write("voc/Annotations/1.xml", VOC.format(name=1, objects=whole + BOX.format(3, 4, 12, 14, label="dog")))
    corpus.write("voc/Annotations/2.xml", VOC.format(name=2, objects=""))
    corpus.write("voc/Annotations/3.xml", VOC.format(name=3, objects=whole))
    corpus.write("voc/ImageSets/Main/train.txt", "1\n2\n")
    corpus.write("voc/ImageSets/Main/val.txt", "3\n")
    corpus.write("voc/ImageSets/Main/trainval.txt", "1\n2\n3\n")
    file = AnnotationFile("datumaro", "voc", "voc_detection")
    first, second = gathered(file, images=str(corpus.root / "voc"))
    assert not corpus.rejects and corpus.tally.passed_over["image"] == 4
    assert [o.category.label for o in first.objects] == ["cat", "dog"]
    assert [o.box for o in first.objects] == [(0.0, 0.0, 40.0, 30.0), (2.0, 3.0, 12.0, 14.0)]
    assert first.image.path == "own/d/images/JPEGImages/1.jpg" and second.objects == ()
    assert {"cat", "person"} <= {c.label for c in first.vocabulary}
    assert {"background", "ignored", "head"}.isdisjoint(c.label for c in first.vocabulary)
    (third,) = corpus.read(file, images="voc", split="validation")
    assert third.id == "d/3"


def _yolo(corpus: Any, labels: str) -> None:
    corpus.images("../yolo/obj_train_data/1.jpg")
    corpus.write("yolo/obj.names", "cat\ndog\n")
    corpus.write("yolo/obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    corpus.write("yolo/train.txt", "data/obj_train_data/1.jpg\n")
    corpus.write("yolo/obj_train_data/1.txt", labels)


@needs_datumaro
def test_yolo_fractions_become_pixels(corpus: Any) -> None:
    _yolo(corpus, "1 0.5 0.5 0.5 0.2\n0 0.25 0.5 0.5 1\n")
    (found,) = corpus.read(AnnotationFile("datumaro", "yolo"), images="yolo")
    assert not corpus.rejects
    assert [(o.category, o.box) for o in found.objects] == [
        (Category("dog"), (10.0, 12.0, 30.0, 18.0)),
        (Category("cat"), (0.0, 0.0, 20.0, 30.0)),
    ]
    assert [c.label for c in found.vocabulary] == ["cat", "dog"]


CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><labels>
<label><name>cat</name></label><label><name>dog</name></label></labels></task></meta>
<image id="0" name="1.jpg" width="40" height="30">
<box label="cat" xtl="1" ytl="2" xbr="11" ybr="12" occluded="0" group_id="5"></box>
<box label="cat" xtl="20" ytl="2" xbr="30" ybr="12" occluded="0" group_id="5"></box>
<polygon label="dog" points="3,4;13,4;13,24" occluded="1"></polygon>
<polyline label="dog" points="0,0;9,9" occluded="0"></polyline>
</image></annotations>"""


@needs_datumaro
def test_cvat_groups_do_not_make_one_object_of_several_boxes(corpus: Any) -> None:
    corpus.images("../cvat/images/1.jpg")
    corpus.write("cvat/train.xml", CVAT)
    (found,) = corpus.read(AnnotationFile("datumaro", "cvat", "cvat"), images="cvat")
    assert [o.box for o in found.objects] == [(1, 2, 11, 12), (20, 2, 30, 12), (3, 4, 13, 24)]
    assert found.objects[2].polygons == ((3.0, 4.0, 13.0, 4.0, 13.0, 24.0),) and found.objects[2].area == 100.0
    assert found.vocabulary == ()  # nobody says that a project of labels is complete
    assert corpus.reasons() == {"object/1/3": "shape_unsupported"}


@needs_datumaro
def test_bad_rows_are_rejects_and_end_the_proof_of_absence(corpus: Any) -> None:
    rows = [_annotation(1, 7, [2, 3, 10, 12]), _annotation(2, 7, [2, 3, 10, 12], category=77)]
    broken = _annotation(3, 8, [0, 0, 5, 5])
    _coco(corpus, [*rows, broken | {"bbox": [1, 2], "segmentation": []}, _annotation(4, 8, [35, 3, 10, 12])])
    first, second = corpus.read(AnnotationFile("datumaro", "."), images=".")
    assert [o.id for o in first.objects] == ["1"] and second.objects == ()
    assert corpus.reasons() == {"object/2": "row_malformed", "object/3": "row_malformed", "object/4": "box_outside"}
    assert first.vocabulary == second.vocabulary == ()
    _coco(corpus, [rows[0], _annotation(2, 8, [2, 3, 10, 12], category=0)])  # which datumaro takes for none
    assert [image.vocabulary for image in corpus.read(AnnotationFile("datumaro", "."), images=".")] == [(), ()]
    assert corpus.reasons() == {"object/2": "label_missing"}


@needs_datumaro
def test_classification_and_missing_images(corpus: Any) -> None:
    corpus.images("../net/train/cat/1.jpg", "../net/train/dog/2.jpg")
    found = corpus.read(AnnotationFile("datumaro", "net", "imagenet_with_subset_dirs"), images="net")
    assert [[label.category.label for label in image.labels] for image in found] == [["cat"], ["dog"]]
    _coco(corpus, [_annotation(1, 7, [2, 3, 10, 12])])
    (corpus.root / "images/train/1.jpg").unlink()
    found = corpus.read(AnnotationFile("datumaro", "."), images=".")
    assert len(found) == 1 and set(corpus.reasons().values()) == {"image_missing"}


@needs_datumaro
@pytest.mark.parametrize(
    ("files", "format", "said"),
    [
        ({"a.txt": "nothing"}, "", "is in no format that datumaro knows"),
        ({"a.txt": "nothing"}, "vox", "datumaro has no format 'vox'; it has .*voc"),
        ({"a.txt": "nothing"}, "voc", "cannot be read as voc"),
        ({"annotations/instances_train.json": "{"}, "coco_instances", "cannot be read as coco_instances"),
    ],
)
def test_what_is_no_data_set_is_an_error(corpus: Any, files: dict[str, str], format: str, said: str) -> None:
    for name, content in files.items():
        corpus.write(f"x/{name}", content)
    with pytest.raises(VistuneError, match=said):
        corpus.read(AnnotationFile("datumaro", "x", format), images="x")
