from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from vistune.errors import VistuneError
from vistune.sources import AnnotationFile

BOXES = AnnotationFile("open_images_boxes", "validation-annotations-bbox.csv", "class-descriptions-boxable.csv")
LABELS = AnnotationFile("open_images_labels", "human-imagelabels.csv", "class-descriptions-boxable.csv")
HIERARCHY = AnnotationFile("open_images_hierarchy", "bbox_labels_600_hierarchy.json", "class-descriptions-boxable.csv")

CLASSES = """LabelName,DisplayName
/m/01g317,Person
/m/04yx4,Man
/m/0dzct,Human face
/m/025nd,Christmas tree
/m/01bl7v,"Boy, young"
"""

BOX_HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)

BOX_ROWS = [
    "0001eeaf4aed83f9,xclick,/m/04yx4,1,0.25,0.75,0,1,1,1,0,0,0",
    "0001eeaf4aed83f9,activemil,/m/0dzct,1,0.5,0.6,0.1,0.3,0,0,0,1,0",
    "000a1249af2bc5f0,xclick,/m/025nd,1,0.022673,0.9642,0.0716,1.0,0,0,1,0,1",
]

LABEL_ROWS = [
    "0001eeaf4aed83f9,verification,/m/04yx4,1",
    "0001eeaf4aed83f9,verification,/m/025nd,0",
    "000a1249af2bc5f0,crowdsource-verification,/m/025nd,1",
    "000a1249af2bc5f0,verification,/m/0dzct,0",
]

TREE = {
    "LabelName": "/m/0bl9f",  # "Entity" is no class
    "Subcategory": [
        {
            "LabelName": "/m/01g317",
            "Subcategory": [{"LabelName": "/m/04yx4"}, {"LabelName": "/m/01bl7v"}],
            "Part": [{"LabelName": "/m/0dzct"}],
        },
        {"LabelName": "/m/0dzct"},
        {"LabelName": "/m/025nd"},
    ],
}

Reader = Callable[..., list[Any]]


@pytest.fixture
def read(corpus: Any) -> Reader:
    corpus.images("0001eeaf4aed83f9.jpg", "000a1249af2bc5f0.jpg")

    def read(*files: AnnotationFile, boxes: list[str] = BOX_ROWS, labels: list[str] = LABEL_ROWS, **change: Any) -> Any:
        corpus.write(BOXES.annotations, change.pop("classes", CLASSES))
        corpus.write(BOXES.path, "\n".join([change.pop("header", BOX_HEADER), *boxes]) + "\n")
        corpus.write(LABELS.path, "\r\n".join(["ImageID,Source,LabelName,Confidence", *labels]))
        corpus.write(HIERARCHY.path, change.pop("tree", TREE))
        return corpus.read(*files, **change)

    return read


def test_boxes_labels_and_hierarchy_meet_on_the_image(corpus: Any, read: Reader) -> None:
    first, second = read(HIERARCHY, BOXES, LABELS)
    assert not corpus.rejects
    man, face = first.objects
    assert (man.id, man.category.label, man.box) == ("0001eeaf4aed83f9-1", "man", (10.0, 0.0, 30.0, 30.0))
    assert (man.attributes, man.crowd, face.attributes) == (("occluded", "truncated"), False, ("depiction",))
    assert face.category.label == "human face" and face.box == pytest.approx((20.0, 3.0, 24.0, 9.0))
    (tree,) = second.objects
    assert (tree.category.label, tree.crowd, tree.attributes) == ("Christmas tree", True, ("inside",))
    assert [(x.id, x.category.label, x.present) for x in first.labels + second.labels] == [
        ("0001eeaf4aed83f9-/m/04yx4", "man", True),
        ("0001eeaf4aed83f9-/m/025nd", "Christmas tree", False),
        ("000a1249af2bc5f0-/m/025nd", "Christmas tree", True),
        ("000a1249af2bc5f0-/m/0dzct", "human face", False),
    ]
    assert first.complete == ("human face", "man") and second.complete == ()  # of a group nobody knows the number
    assert first.vocabulary == () and first.id == "d/0001eeaf4aed83f9"


def test_without_the_hierarchy_nothing_is_complete(read: Reader) -> None:
    assert [image.complete for image in read(BOXES)] == [(), ()]


@pytest.mark.parametrize(
    ("row", "complete"),
    [
        ("0001eeaf4aed83f9,xclick,/m/01g317,1,0,0.2,0,1,0,0,0,0,0", ("human face", "man")),  # men are persons too
        ("0001eeaf4aed83f9,xclick,/m/01bl7v,1,0,0.2,0,1,0,0,0,0,0", ("boy, young", "human face", "man")),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,0,0.2,0,1,0,0,1,0,0", ("human face",)),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,0,0.2,0,1,0,0,-1,0,0", ("human face",)),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,0,1.2,0,1,0,0,0,0,0", ("human face",)),  # its box is refused
    ],
)
def test_a_class_is_complete_only_if_its_boxes_are_all_there_is(read: Reader, row: str, complete: Any) -> None:
    assert read(BOXES, HIERARCHY, boxes=[*BOX_ROWS, row])[0].complete == complete


def test_a_class_that_the_hierarchy_lacks_is_not_complete(read: Reader) -> None:
    first, _ = read(BOXES, HIERARCHY, tree={**TREE, "Subcategory": TREE["Subcategory"][1:]})
    assert first.complete == ("human face",)


def test_boxes_are_fractions_of_the_upright_image(corpus: Any, read: Reader) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (30, 40)).save(corpus.root / "images/0001eeaf4aed83f9.jpg", exif=turned)
    assert read(BOXES)[0].objects[0].box == (10.0, 0.0, 30.0, 30.0)


@pytest.mark.parametrize(
    ("row", "key", "reason"),
    [
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,0.25,0.75,0,1,0,0,0,0,0", "0001eeaf4aed83f9-4", "duplicate_box"),
        ("0001eeaf4aed83f9,xclick,/m/xxx,1,0.3,0.75,0,1,0,0,0,0,0", "0001eeaf4aed83f9-4", "category_unknown"),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,0.75,0.25,0,1,0,0,0,0,0", "0001eeaf4aed83f9-4", "box_degenerate"),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,nan,0.75,0,1,0,0,0,0,0", "0001eeaf4aed83f9-4", "box_degenerate"),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,10,30,0,30,0,0,0,0,0", "0001eeaf4aed83f9-4", "box_outside"),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,left,0.75,0,1,0,0,0,0,0", "0001eeaf4aed83f9-4", "row_malformed"),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,,0.75,0,1,0,0,0,0,0", "0001eeaf4aed83f9-4", "row_malformed"),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,0.3,0.75,0,1,0,0,2,0,0", "0001eeaf4aed83f9-4", "row_malformed"),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,0.3,0.75,0,1,yes,0,0,0,0", "0001eeaf4aed83f9-4", "row_malformed"),
        (",xclick,/m/04yx4,1,0.3,0.75,0,1,0,0,0,0,0", "#3-4", "row_malformed"),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,0.3,0.75,0,1", "#3-4", "row_malformed"),
        ("0001eeaf4aed83f9,xclick,/m/04yx4,1,0.3,0.75,0,1,0,0,0,0,0,0", "#3-4", "row_malformed"),
    ],
)
def test_bad_boxes_are_rejected(corpus: Any, read: Reader, row: str, key: str, reason: str) -> None:
    first, _ = read(BOXES, boxes=[*BOX_ROWS, row])
    assert corpus.reasons() == {f"object/{key}": reason} and len(first.objects) == 2


def test_flags_may_be_absent_and_an_image_that_only_bad_rows_name_is_not_listed(corpus: Any, read: Reader) -> None:
    short = [",".join(row.split(",")[:8]) for row in BOX_ROWS]
    bad = "ffff,xclick,/m/xxx,1,0,1,0,1"
    first, second = read(BOXES, header=",".join(BOX_HEADER.split(",")[:8]), boxes=[*short, bad])
    assert corpus.reasons() == {"object/ffff-4": "category_unknown"}
    assert first.objects[0].attributes == () and not second.objects[0].crowd


@pytest.mark.parametrize(
    ("rows", "reasons", "kept"),
    [
        (["0001eeaf4aed83f9,machine,/m/0dzct,0.9"], {"0001eeaf4aed83f9-/m/0dzct": "label_unverified"}, 4),
        (["ffff,machine,/m/0dzct,0.9"], {"ffff-/m/0dzct": "label_unverified"}, 4),  # and no image ffff is missed
        (["0001eeaf4aed83f9,verification,/m/0dzct,0.5"], {"0001eeaf4aed83f9-/m/0dzct": "row_malformed"}, 4),
        (["0001eeaf4aed83f9,verification,/m/0dzct,no"], {"0001eeaf4aed83f9": "row_malformed"}, 4),
        (["0001eeaf4aed83f9,verification,/m/xxx,1"], {"0001eeaf4aed83f9": "category_unknown"}, 4),
        (["0001eeaf4aed83f9,verification,/m/04yx4,1"], {"0001eeaf4aed83f9-/m/04yx4": "duplicate_id"}, 4),
        (["0001eeaf4aed83f9,verification"], {"#4": "row_malformed"}, 4),
        (["0001eeaf4aed83f9,verification,/m/0dzct,1.0"], {}, 5),
    ],
)
def test_only_verified_labels_count(corpus: Any, read: Reader, rows: list[str], reasons: Any, kept: int) -> None:
    images = read(LABELS, labels=[*LABEL_ROWS, *rows])
    assert corpus.reasons() == {f"label/{key}": reason for key, reason in reasons.items()}
    assert sum(len(image.labels) for image in images) == kept


@pytest.mark.parametrize("later", [["0"], ["0", "1"], ["0", "0"]])
def test_of_verdicts_that_contradict_each_other_none_counts(corpus: Any, read: Reader, later: list[str]) -> None:
    rows = [f"0001eeaf4aed83f9,crowdsource-verification,/m/04yx4,{confidence}" for confidence in later]
    first, _ = read(LABELS, labels=[*LABEL_ROWS, *rows])
    assert [x.category.label for x in first.labels] == ["Christmas tree"]
    assert [r.reason for r in corpus.rejects].count("label_contradicted") >= 2
    assert len(corpus.rejects) == 1 + len(later)


def test_two_classes_of_one_name_cannot_contradict_each_other(corpus: Any, read: Reader) -> None:
    classes = CLASSES + "/m/zzz,Man\n"
    first, _ = read(LABELS, classes=classes, labels=[*LABEL_ROWS, "0001eeaf4aed83f9,verification,/m/zzz,0"])
    assert [x.category.label for x in first.labels] == ["Christmas tree"]
    assert {r.reason for r in corpus.rejects} == {"label_contradicted"}


def test_older_class_files_have_no_header_and_newer_files_may_have_a_mark(corpus: Any, read: Reader) -> None:
    classes = CLASSES.split("\n", 1)[1]
    assert len(read(BOXES, classes=classes, header="\ufeff" + BOX_HEADER)) == 2 and not corpus.rejects


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"header": BOX_HEADER.replace("XMin,", "")}, r"bbox\.csv: expected a header .* XMin is not in"),
        ({"header": "", "boxes": []}, r"bbox\.csv: expected a header"),
        ({"boxes": ["x" * 200_000]}, r"bbox\.csv is not a CSV file"),
        ({"classes": "/m/04yx4\n"}, r"boxable\.csv: expected rows of two cells"),
        ({"classes": "/m/04yx4,  \n"}, r"boxable\.csv: expected rows of two cells"),
        ({"tree": []}, r"hierarchy\.json: expected nested objects"),
        ({"tree": {"LabelName": "/m/01g317", "Subcategory": {}}}, r"hierarchy\.json: expected nested objects"),
        (
            {"tree": {"LabelName": "/m/01g317", "Subcategory": ["/m/04yx4"]}},
            r"hierarchy\.json: expected nested objects",
        ),
    ],
)
def test_a_file_of_another_shape_is_an_error_that_names_it(read: Reader, change: Any, said: str) -> None:
    with pytest.raises(VistuneError, match=said):
        read(BOXES, HIERARCHY, **change)


def test_a_file_that_is_not_text_or_nested_without_end_is_an_error(corpus: Any, read: Reader) -> None:
    tree: Any = {"LabelName": "/m/04yx4"}
    for _ in range(200):
        tree = {"LabelName": "/m/01g317", "Subcategory": [tree]}
    with pytest.raises(VistuneError, match="expected nested objects"):
        read(BOXES, HIERARCHY, tree=tree)
    (corpus.root / BOXES.path).write_bytes(b"ImageID\xff")
    with pytest.raises(VistuneError, match=r"bbox\.csv is not a CSV file"):
        corpus.read(BOXES)
    (corpus.root / BOXES.path).unlink()
    with pytest.raises(VistuneError, match=r"bbox\.csv cannot be read \(No such file"):
        corpus.read(BOXES)
