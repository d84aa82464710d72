from itertools import permutations
from typing import Any

import pytest
from PIL import Image

from vistune.errors import VistuneError
from vistune.sources import AnnotationFile

IMAGES = AnnotationFile("vg_images", "image_data.json")
REGIONS = AnnotationFile("vg_regions", "region_descriptions.json")
OBJECTS = AnnotationFile("vg_objects", "objects.json")
ATTRIBUTES = AnnotationFile("vg_attributes", "attributes.json")
RELATIONS = AnnotationFile("vg_relations", "relationships.json")
QUESTIONS = AnnotationFile("vg_qa", "question_answers.json")
ALL = (IMAGES, REGIONS, OBJECTS, ATTRIBUTES, RELATIONS, QUESTIONS)


def _image(id: int, folder: str, coco: int | None) -> dict[str, Any]:
    url = f"https://cs.stanford.edu/people/rak248/{folder}/{id}.jpg"
    return {"image_id": id, "url": url, "width": 40, "height": 30, "coco_id": coco, "flickr_id": None}


def _object(id: int, name: str, box: list[Any], **more: Any) -> dict[str, Any]:
    sides = dict(zip("xywh", box, strict=True))
    return {"object_id": id, "names": [name], "synsets": [f"{name}.n.01"], "merged_object_ids": [], **sides, **more}


def _region(id: int, image: int, phrase: str, box: list[Any]) -> dict[str, Any]:
    sides = dict(zip(("x", "y", "width", "height"), box, strict=True))
    return {"region_id": id, "image_id": image, "phrase": phrase, **sides}


@pytest.fixture
def genome(corpus: Any) -> Any:
    corpus.images("VG_100K_2/1.jpg", "VG_100K/2.jpg")
    man, sidewalk = _object(10, "man", [2, 3, 10, 12]), _object(11, "Sidewalk ", [0, 20, 40, 10])
    shade = {"object_id": 12, "name": "shade", "synsets": ["shade.n.01"], "x": 5, "y": 5, "w": 4, "h": 4}
    corpus.trees = {
        IMAGES.path: [_image(1, "VG_100K_2", None), _image(2, "VG_100K", 547168)],
        REGIONS.path: [
            {"id": 1, "regions": [_region(1382, 1, "the clock  is green\n", [1, 2, 8, 9])]},
            {"id": 2, "regions": [_region(1383, 2, "a tree", [-3, 20, 50, 15])]},
        ],
        OBJECTS.path: [
            {"image_id": 1, "objects": [man, sidewalk], "image_url": "https://cs.stanford.edu/1.jpg"},
            {"image_id": 2, "objects": [_object(20, "tree", [30, 0, 14, 31])], "image_url": ""},
        ],
        ATTRIBUTES.path: [
            {
                "image_id": 1,
                "attributes": [
                    {**man, "attributes": ["Tall", "young", "tall "]},
                    _object(13, "sign", [1, 1, 5, 5], attributes=["red"]),
                    sidewalk,  # objects without attributes are listed too
                ],
            },
            {"image_id": 2, "attributes": []},
        ],
        RELATIONS.path: [
            {
                "image_id": 1,
                "relationships": [
                    {
                        "relationship_id": 15927,
                        "predicate": "ON",
                        "synsets": ["along.r.01"],
                        "subject": shade,
                        "object": sidewalk,
                    },
                    {"relationship_id": 15928, "predicate": "near", "synsets": [], "subject": man, "object": shade},
                ],
            }
        ],
        QUESTIONS.path: [
            {
                "id": 1,
                "qas": [
                    {
                        "qa_id": 986768,
                        "image_id": 1,
                        "question": "What colour is the clock?",
                        "answer": "Green.",
                        "a_objects": [],
                        "q_objects": [],
                    },
                    {"qa_id": 986769, "image_id": 1, "question": "Where?", "answer": "On 5th St. in N.Y."},
                ],
            },
            {"qa_id": 986770, "image_id": 2, "question": "How many?", "answer": "Two"},  # some releases group nothing
        ],
    }
    return corpus


def _read(genome: Any, *files: AnnotationFile, **change: Any) -> list[Any]:
    for name, tree in genome.trees.items():
        genome.write(name, tree)
    return genome.read(*files or ALL, **change)


def test_all_files_meet_on_the_image(genome: Any) -> None:
    first, second = _read(genome)
    assert not genome.rejects
    assert (first.image.path, second.image.path) == ("images/VG_100K_2/1.jpg", "images/VG_100K/2.jpg")
    man, sidewalk, sign, shade = first.objects
    assert (man.id, man.category.label, man.box, man.attributes) == (
        "10",
        "man",
        (2.0, 3.0, 12.0, 15.0),
        ("tall", "young"),
    )
    assert (sidewalk.category.label, sidewalk.attributes) == ("sidewalk", ())
    assert (sign.id, sign.category.label, sign.attributes) == ("13", "sign", ("red",))  # only attributes.json has it
    assert (shade.id, shade.box) == ("12", (5.0, 5.0, 9.0, 9.0))  # only relationships.json has it
    assert [(r.id, r.subject, r.predicate, r.object) for r in first.relations] == [
        ("15927", "12", "on", "11"),
        ("15928", "10", "near", "12"),
    ]
    (clock,) = first.phrases
    assert (clock.id, clock.text, clock.kind) == ("1382", "the clock is green", "description")
    assert clock.boxes == ((1.0, 2.0, 9.0, 11.0),)
    green, street = first.questions
    assert (green.id, green.answer, green.answers) == ("986768", "Green", ("Green.",))
    assert street.answer == "On 5th St. in N.Y." and second.questions[0].answer == "Two"
    assert first.vocabulary == first.complete == ()


def test_boxes_are_cut_off_at_the_border_and_counted(genome: Any) -> None:
    _, second = _read(genome)
    assert second.phrases[0].boxes == ((0.0, 20.0, 40.0, 30.0),)
    assert second.objects[0].box == (30.0, 0.0, 40.0, 30.0)
    assert genome.tally.mended == {"box_clipped": 2}


def test_the_order_of_the_files_does_not_matter(genome: Any) -> None:
    def facts(images: list[Any]) -> Any:
        return [
            ({(o.id, o.category.label, o.box, frozenset(o.attributes)) for o in i.objects}, set(i.relations))
            for i in images
        ]

    expected, kept = facts(_read(genome)), genome.tally.kept
    for order in permutations((OBJECTS, ATTRIBUTES, RELATIONS)):
        assert facts(_read(genome, *order, IMAGES)) == expected and not genome.rejects
        assert genome.tally.kept["object"] == kept["object"] == 5


def test_without_image_data_a_pattern_names_the_images(genome: Any) -> None:
    genome.images("VG_100K/1.jpg")
    first, second = _read(genome, OBJECTS, QUESTIONS, image_pattern="VG_100K/{image_id}.jpg")
    assert not genome.rejects and (len(first.objects), len(second.questions)) == (2, 1)
    assert first.image.path == "images/VG_100K/1.jpg"
    assert _read(genome, OBJECTS) == [] and set(genome.reasons().values()) == {"image_unknown"}


def test_sizes_are_those_of_the_upright_image(genome: Any) -> None:
    turned = Image.Exif()
    turned[0x0112] = 8
    Image.new("RGB", (40, 30)).save(genome.root / "images/VG_100K/2.jpg", exif=turned)
    assert [i.id for i in _read(genome, IMAGES)] == ["d/1"]
    assert genome.reasons() == {"image/2": "image_size"}


def _first(tree: list[Any]) -> Any:
    """The first row of the first group."""
    return next(rows for rows in tree[0].values() if isinstance(rows, list))[0]


@pytest.mark.parametrize(
    ("file", "damage", "reasons"),
    [
        (IMAGES, lambda t: t[1].update(url="2.jpg"), {"image/2": "row_malformed"}),
        (IMAGES, lambda t: t[1].update(width="40"), {"image/2": "row_malformed"}),
        (IMAGES, lambda t: t[1].pop("height"), {"image/2": "row_malformed"}),
        (IMAGES, lambda t: t.append(t[0]), {"image/1": "duplicate_id"}),
        (IMAGES, lambda t: t.append("oops"), {"image/#2": "row_malformed"}),
        (REGIONS, lambda t: _first(t).update(phrase=" "), {"phrase/1382": "phrase_empty"}),
        (REGIONS, lambda t: _first(t).update(phrase=None), {"phrase/1382": "row_malformed"}),
        (REGIONS, lambda t: _first(t).update(image_id=2), {"phrase/1382": "image_mismatch"}),
        (REGIONS, lambda t: _first(t).pop("width"), {"phrase/1382": "row_malformed"}),
        (REGIONS, lambda t: _first(t).update(w=8, width=None), {"phrase/1382": "row_malformed"}),
        (REGIONS, lambda t: _first(t).update(width=0), {"phrase/1382": "box_degenerate"}),
        (REGIONS, lambda t: _first(t).update(x=40), {"phrase/1382": "box_degenerate"}),
        (REGIONS, lambda t: _first(t).update(region_id=1383), {"phrase/1383": "duplicate_id"}),
        (REGIONS, lambda t: t[0].update(regions="oops"), {"phrase/#0": "row_malformed"}),
        (REGIONS, lambda t: t[0]["regions"].append(7), {"phrase/#1": "row_malformed"}),
        (OBJECTS, lambda t: t[0].update(image_id=9), {"object/10": "image_unknown", "object/11": "image_unknown"}),
        (OBJECTS, lambda t: _first(t).update(names=[" "]), {"object/10": "object_unnamed"}),
        (OBJECTS, lambda t: _first(t).update(names=[]), {"object/10": "object_unnamed"}),
        (OBJECTS, lambda t: _first(t).update(names="man"), {"object/10": "row_malformed"}),
        (OBJECTS, lambda t: _first(t).update(names=[5]), {"object/10": "row_malformed"}),
        (OBJECTS, lambda t: _first(t).update(width=9, w=None), {"object/10": "row_malformed"}),
        (OBJECTS, lambda t: _first(t).update(h=-1), {"object/10": "box_degenerate"}),
        (OBJECTS, lambda t: _first(t).update(object_id=11), {"object/11": "duplicate_id"}),
        (OBJECTS, lambda t: _first(t).pop("object_id"), {"object/#0": "row_malformed"}),
        (ATTRIBUTES, lambda t: _first(t).update(attributes="tall"), {"object/10": "row_malformed"}),
        (ATTRIBUTES, lambda t: _first(t).update(attributes=[1]), {"object/10": "row_malformed"}),
        (ATTRIBUTES, lambda t: t[0]["attributes"][1].pop("x"), {"object/13": "row_malformed"}),
        (ATTRIBUTES, lambda t: t[0]["attributes"].append(t[0]["attributes"][1]), {"object/13": "duplicate_id"}),
        (RELATIONS, lambda t: _first(t).update(predicate=""), {"relation/15927": "relation_empty"}),
        (RELATIONS, lambda t: _first(t).update(subject=12), {"relation/15927": "row_malformed"}),
        (
            RELATIONS,
            lambda t: _first(t).update(object={"object_id": 99}),
            {"relation/15927": "row_malformed"},
        ),
        (
            RELATIONS,
            lambda t: _first(t).update(relationship_id=15928),
            {"relation/15928": "duplicate_id"},
        ),
        (QUESTIONS, lambda t: _first(t).update(question=""), {"question/986768": "question_empty"}),
        (QUESTIONS, lambda t: _first(t).update(answer=" . "), {"question/986768": "question_unanswered"}),
        (QUESTIONS, lambda t: _first(t).update(answer=5), {"question/986768": "row_malformed"}),
        (QUESTIONS, lambda t: t[1].update(image_id=99), {"question/986770": "image_unknown"}),
    ],
)
def test_bad_rows_are_rejected(genome: Any, file: AnnotationFile, damage: Any, reasons: dict[str, str]) -> None:
    damage(genome.trees[file.path])
    files = (IMAGES, file) if file is not ATTRIBUTES else (IMAGES, OBJECTS, ATTRIBUTES)
    _read(genome, *dict.fromkeys(files))
    assert genome.reasons() == reasons


def test_annotations_of_a_rejected_image_are_rejected_each(genome: Any) -> None:
    (genome.root / "images/VG_100K/2.jpg").unlink()
    assert [i.id for i in _read(genome)] == ["d/1"]
    assert genome.reasons() == dict.fromkeys(
        ["image/2", "phrase/1383", "object/20", "question/986770"], "image_missing"
    )


def test_a_relation_goes_with_its_ends(genome: Any) -> None:
    for name in (OBJECTS.path, RELATIONS.path):
        rows = genome.trees[name][0].get("objects") or [r["subject"] for r in genome.trees[name][0]["relationships"]]
        next(row for row in rows if row["object_id"] == 10)["w"] = 0
    first, _ = _read(genome, IMAGES, OBJECTS, RELATIONS)
    assert [r.id for r in first.relations] == ["15927"]
    assert genome.reasons() == {"object/10": "box_degenerate", "relation/15928": "object_rejected"}


@pytest.mark.parametrize("file", ALL)
def test_a_file_of_another_shape_is_an_error_that_names_it(genome: Any, file: AnnotationFile) -> None:
    genome.trees[file.path] = {}
    with pytest.raises(VistuneError, match=rf"{file.path}: expected a list"):
        _read(genome, file)
