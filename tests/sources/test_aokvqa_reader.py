from typing import Any

import pytest

from vistune.errors import VistuneError
from vistune.records import Question
from vistune.sources import AnnotationFile

FILE = AnnotationFile("aokvqa", "aokvqa_v1p0_train.json")
FIRST, SECOND = "22MexNkBPpdZGX6sxbxVBH", "2aaAGx3bmXYcLgJ6iCMH3C"


@pytest.fixture
def rows(corpus: Any) -> list[dict[str, Any]]:
    """The first two rows of the train split, in the published layout."""
    corpus.images("000000299207.jpg", "000000103012.jpg")
    return [
        {
            "split": "train",
            "image_id": 299207,
            "question_id": FIRST,
            "question": "What is the man by the bags awaiting? ",
            "choices": ["skateboarder", "train", "delivery", "Cab"],
            "correct_choice_idx": 3,
            "direct_answers": ["ride", "ride", "bus", "taxi", "travelling", "traffic", "taxi", "cab", "cab", "cab"],
            "difficult_direct_answer": False,
            "rationales": [
                "A train would not be on the street, he would not have luggage waiting for a delivery,",
                "He has bags as if he is going someplace.",
                "He looks to be waiting for a paid ride to pick him up.",
            ],
        },
        {
            "split": "train",
            "image_id": 103012,
            "question_id": SECOND,
            "question": "Where does this man eat his lunch?",
            "choices": ["hotel", "office", "work", "restaurant"],
            "correct_choice_idx": 1,
            "direct_answers": ["desk"] * 10,
            "difficult_direct_answer": False,
            "rationales": ["He is at his desk."],
        },
    ]


def test_the_published_layout_is_read_without_a_reject(corpus: Any, rows: Any) -> None:
    corpus.write(FILE.path, rows)
    desk, bags = corpus.read(FILE)
    assert not corpus.rejects
    assert (desk.id, bags.id, bags.image.path) == ("d/103012", "d/299207", "images/000000299207.jpg")
    assert bags.questions == (
        Question(
            FIRST,
            "What is the man by the bags awaiting?",
            "Cab",
            tuple(rows[0]["direct_answers"]),
            ("skateboarder", "train", "delivery", "Cab"),
            rationales=tuple(rows[0]["rationales"]),
        ),
    )


def test_the_answer_keeps_its_letters_so_that_it_stays_one_of_the_choices(corpus: Any, rows: Any) -> None:
    rows[0]["choices"] = [" Yellow\n Cab ", "train", "USB stick", "I don't know"]
    rows[0]["correct_choice_idx"] = 0
    corpus.write(FILE.path, rows)
    (question,) = corpus.read(FILE)[1].questions
    assert question.answer == "Yellow Cab" and question.answer in question.choices
    assert question.choices == ("Yellow Cab", "train", "USB stick", "I don't know")


def test_without_a_correct_choice_the_direct_answers_decide_and_the_choices_are_left_out(
    corpus: Any, rows: Any
) -> None:
    del rows[0]["correct_choice_idx"]
    corpus.write(FILE.path, rows)
    (question,) = corpus.read(FILE)[1].questions
    assert (question.answer, question.choices, len(question.answers)) == ("cab", (), 10)
    assert not corpus.rejects


def test_the_test_split_publishes_no_answers(corpus: Any, rows: Any) -> None:
    for row in rows:
        row["split"] = "test"
        for key in ("correct_choice_idx", "direct_answers", "rationales"):
            del row[key]
    corpus.write(FILE.path, rows)
    assert corpus.read(FILE) == [] and not corpus.rejects
    assert corpus.tally.passed_over == {"question": 2}
    assert corpus.read(FILE, split="test") == []
    assert corpus.reasons() == dict.fromkeys([f"question/{FIRST}", f"question/{SECOND}"], "question_unanswered")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"correct_choice_idx": 4}, "answer_not_among_choices"),
        ({"correct_choice_idx": -1}, "answer_not_among_choices"),
        ({"correct_choice_idx": True}, "row_malformed"),
        ({"correct_choice_idx": "3"}, "row_malformed"),
        ({"choices": []}, "answer_not_among_choices"),
        ({"choices": ["train", "Cab", "train ", "x"]}, "choices_repeated"),
        ({"choices": ["train", "", "bus", "x"]}, "row_malformed"),
        ({"choices": "train"}, "row_malformed"),
        ({"choices": None}, "row_malformed"),
        ({"direct_answers": "['ride', 'bus']"}, "row_malformed"),
        ({"rationales": [7]}, "row_malformed"),
        ({"question": " \n"}, "question_empty"),
        ({"question": 7}, "row_malformed"),
        ({"question": "What \ud83d?"}, "row_malformed"),
        ({"image_id": None}, "row_malformed"),
        ({"image_id": "abc"}, "row_malformed"),
        ({"split": "trian"}, "row_malformed"),
    ],
)
def test_bad_rows_are_rejected_with_their_reason(corpus: Any, rows: Any, change: Any, reason: str) -> None:
    rows[0].update(change)
    corpus.write(FILE.path, rows)
    assert [image.id for image in corpus.read(FILE)] == ["d/103012"]
    assert corpus.reasons() == {f"question/{FIRST}": reason}


@pytest.mark.parametrize("key", ["image_id", "question_id", "question", "choices"])
def test_a_missing_key_rejects_the_row(corpus: Any, rows: Any, key: str) -> None:
    del rows[0][key]
    corpus.write(FILE.path, rows)
    assert len(corpus.read(FILE)) == 1
    assert corpus.reasons() == {"question/#0" if key == "question_id" else f"question/{FIRST}": "row_malformed"}


def test_rows_that_are_no_objects_or_repeat_an_id_are_rejected(corpus: Any, rows: Any) -> None:
    corpus.write(FILE.path, [*rows, "row", {**rows[0], "question": "Again?"}])
    assert len(corpus.read(FILE)) == 2
    assert corpus.reasons() == {"question/#2": "row_malformed", f"question/{FIRST}": "duplicate_id"}


def test_images_are_those_of_the_coco_files_or_of_the_pattern(corpus: Any, rows: Any) -> None:
    corpus.write(FILE.path, rows)
    assert corpus.read(FILE, image_pattern="COCO_{image_id}.jpg") == []
    assert set(corpus.reasons().values()) == {"image_missing"} and len(corpus.rejects) == 4
    coco = {"images": [{"id": 299207, "file_name": "other.png"}], "categories": [], "annotations": []}
    corpus.write("instances.json", coco)
    corpus.images("other.png")
    images = corpus.read(FILE, AnnotationFile("coco_instances", "instances.json"))
    assert [image.image.path for image in images] == ["images/000000103012.jpg", "images/other.png"]


def test_a_file_of_another_shape_is_an_error_that_names_it(corpus: Any) -> None:
    corpus.write(FILE.path, {"data": []})
    with pytest.raises(VistuneError, match=r"aokvqa_v1p0_train\.json: expected a list at the top, got a dict"):
        corpus.read(FILE)
