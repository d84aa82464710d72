from typing import Any

import pytest
from PIL import Image

from vistune.errors import VistuneError
from vistune.sources import AnnotationFile

SCENES = AnnotationFile("gqa_scene_graphs", "train_sceneGraphs.json")
QUESTIONS = AnnotationFile("gqa_questions", "train_balanced_questions.json")


@pytest.fixture
def gqa(corpus: Any) -> Any:
    corpus.images("2407890.jpg", "n101.jpg")
    corpus.scenes = {
        "2407890": {
            "width": 40,
            "height": 30,
            "location": "living room",
            "objects": {
                "271881": {
                    "name": "chair",
                    "x": 2,
                    "y": 3,
                    "w": 10,
                    "h": 12,
                    "attributes": ["brown", "wooden"],
                    "relations": [
                        {"name": "to the left of", "object": "275312"},
                        {"name": "near", "object": "275312"},
                    ],
                },
                "275312": {"name": "table", "x": 20, "y": 0, "w": 25, "h": 30, "attributes": [], "relations": []},
            },
        },
        "n101": {"width": 40, "height": 30, "objects": {}},
    }
    corpus.questions = {
        "02930152": {
            "semantic": [{"operation": "select", "dependencies": [], "argument": "sky (2486325)"}],
            "entailed": ["02930160"],
            "equivalent": ["02930152"],
            "question": "Is the chair brown?",
            "imageId": "2407890",
            "isBalanced": True,
            "groups": {"global": None, "local": "06-sky_dark"},
            "answer": "yes",
            "semanticStr": "select: sky (2486325)->verify color: dark [0]",
            "annotations": {"answer": {}, "question": {"2": "271881"}, "fullAnswer": {"2": "271881"}},
            "types": {"detailed": "verifyAttrC", "semantic": "attr", "structural": "verify"},
            "fullAnswer": "Yes, the chair is brown.",
        },
        "07333408": {"question": "What is it?", "imageId": "n101", "answer": "bird", "fullAnswer": "It is a bird."},
    }
    return corpus


def _read(gqa: Any, *files: AnnotationFile, **change: Any) -> list[Any]:
    gqa.write(SCENES.path, gqa.scenes)
    gqa.write(QUESTIONS.path, gqa.questions)
    return gqa.read(*files or (SCENES, QUESTIONS), **change)


def test_scenes_and_questions_meet_on_the_image(gqa: Any) -> None:
    first, second = _read(gqa)
    assert not gqa.rejects and (first.id, second.id) == ("d/2407890", "d/n101")
    chair, table = first.objects
    assert (chair.id, chair.category.label, chair.attributes) == ("271881", "chair", ("brown", "wooden"))
    assert chair.box == (2.0, 3.0, 12.0, 15.0)
    assert table.box == (20.0, 0.0, 40.0, 30.0) and gqa.tally.mended == {"box_clipped": 1}
    assert [(r.id, r.subject, r.predicate, r.object) for r in first.relations] == [
        ("271881-0", "271881", "to the left of", "275312"),
        ("271881-1", "271881", "near", "275312"),
    ]
    (brown,) = first.questions
    assert (brown.id, brown.text, brown.answer, brown.answers) == ("02930152", "Is the chair brown?", "yes", ("yes",))
    assert (brown.sentence, brown.kind) == ("Yes, the chair is brown.", "verify/attr")
    assert second.questions[0].kind == "" and second.objects == ()


def test_questions_alone_list_their_images_without_sizes(gqa: Any) -> None:
    Image.new("RGB", (50, 50)).save(gqa.root / "images/n101.jpg")
    assert len(_read(gqa, QUESTIONS)) == 2 and not gqa.rejects
    assert [i.id for i in _read(gqa, QUESTIONS, SCENES)] == ["d/2407890"]  # scene graphs state the size
    assert gqa.reasons() == {"image/n101": "image_size", "question/07333408": "image_size"}


def test_relations_may_be_an_object_as_the_documentation_has_them(gqa: Any) -> None:
    chair = gqa.scenes["2407890"]["objects"]["271881"]
    chair["relations"] = {"32452": {"name": "on", "object": "275312"}}
    assert [r.predicate for r in _read(gqa)[0].relations] == ["on"]


def test_a_folder_of_question_files_is_read_whole(gqa: Any) -> None:
    for n, (key, value) in enumerate(gqa.questions.items()):
        gqa.write(f"train_all_questions/train_all_questions_{n}.json", {key: value})
    images = _read(gqa, SCENES, AnnotationFile("gqa_questions", "train_all_questions"))
    assert [len(i.questions) for i in images] == [1, 1] and not gqa.rejects


def _chair(gqa: Any) -> Any:
    return gqa.scenes["2407890"]["objects"]["271881"]


@pytest.mark.parametrize(
    ("damage", "reasons"),
    [
        (lambda g: _chair(g)["relations"][0].update(object="99"), {"relation/271881-0": "object_unknown"}),
        (lambda g: _chair(g)["relations"][0].update(object=None), {"relation/271881-0": "row_malformed"}),
        (lambda g: _chair(g)["relations"][0].update(name=" "), {"relation/271881-0": "relation_empty"}),
        (lambda g: _chair(g)["relations"].append("oops"), {"relation/271881-2": "row_malformed"}),
        (lambda g: _chair(g).update(relations="oops"), {"relation/271881-relations": "row_malformed"}),
        (lambda g: _chair(g).update(relations=[], name=""), {"object/271881": "object_unnamed"}),
        (lambda g: _chair(g).update(relations=[], name=7), {"object/271881": "row_malformed"}),
        (lambda g: _chair(g).update(relations=[], attributes={}), {"object/271881": "row_malformed"}),
        (lambda g: _chair(g).update(relations=[], attributes=[1]), {"object/271881": "row_malformed"}),
        (lambda g: _chair(g).update(relations=[], x="2"), {"object/271881": "row_malformed"}),
        (lambda g: _chair(g).update(relations=[], w=0), {"object/271881": "box_degenerate"}),
        (lambda g: g.scenes["2407890"]["objects"].update(bad=[]), {"object/bad": "row_malformed"}),
        (lambda g: g.scenes.update(x=[]), {"image/x": "row_malformed"}),
        (lambda g: g.scenes["n101"].pop("width"), {"image/n101": "row_malformed"}),
        (lambda g: g.scenes["n101"].update(height=30.5), {"image/n101": "row_malformed"}),
        (lambda g: g.scenes["n101"].update(objects=[]), {"image/n101": "row_malformed"}),
        (lambda g: g.questions["07333408"].pop("answer"), {"question/07333408": "question_unanswered"}),
        (lambda g: g.questions["07333408"].update(answer=2), {"question/07333408": "row_malformed"}),
        (lambda g: g.questions["07333408"].update(question="  "), {"question/07333408": "question_empty"}),
        (lambda g: g.questions["07333408"].update(types="verify"), {"question/07333408": "row_malformed"}),
        (lambda g: g.questions["07333408"].pop("imageId"), {"question/07333408": "row_malformed"}),
        (lambda g: g.questions.update(bad="oops"), {"question/bad": "row_malformed"}),
    ],
)
def test_bad_rows_are_rejected(gqa: Any, damage: Any, reasons: dict[str, str]) -> None:
    damage(gqa)
    _read(gqa)
    assert gqa.reasons() == reasons


def test_a_relation_to_a_refused_object_is_refused(gqa: Any) -> None:
    gqa.scenes["2407890"]["objects"]["275312"].update(x=900)
    first, _ = _read(gqa)
    assert [o.id for o in first.objects] == ["271881"] and first.relations == ()
    assert gqa.reasons() == {
        "object/275312": "box_degenerate",
        "relation/271881-0": "object_rejected",
        "relation/271881-1": "object_rejected",
    }


def test_an_id_that_a_file_repeats_is_rejected(gqa: Any) -> None:
    _read(gqa)
    text = (gqa.root / SCENES.path).read_text()
    (gqa.root / SCENES.path).write_text(f'{text[:-1]}, "n101": {{"width": 40, "height": 30, "objects": {{}}}}}}')
    text = (gqa.root / QUESTIONS.path).read_text()
    again = '"07333408": {"question": "Again?", "imageId": "n101", "answer": "no"}'
    (gqa.root / QUESTIONS.path).write_text(f"{text[:-1]}, {again}}}")
    _, second = gqa.read(SCENES, QUESTIONS)
    assert gqa.reasons() == {"image/n101": "duplicate_id", "question/07333408": "duplicate_id"}
    assert second.questions[0].text == "What is it?"


@pytest.mark.parametrize("file", [SCENES, QUESTIONS])
def test_a_file_of_another_shape_is_an_error_that_names_it(gqa: Any, file: AnnotationFile) -> None:
    gqa.scenes = gqa.questions = []
    with pytest.raises(VistuneError, match=rf"{file.path}: expected an object"):
        _read(gqa, file)
