import json
from typing import Any

import pytest

from vistune.errors import VistuneError
from vistune.records import AnnotatedImage, Dialogue, Message, Question
from vistune.sources import AnnotationFile

ALONE = AnnotationFile("scienceqa", "problems.json")
FILE = AnnotationFile("scienceqa", "problems.json", "pid_splits.json")


@pytest.fixture
def problems(corpus: Any) -> dict[str, Any]:
    """Two problems of the train split, one with a picture, and one of each other split, in the published layout."""
    corpus.images("train/1/image.png", "val/5/image.png", "test/6/image.png")
    first = {
        "question": "Which of these states is farthest north?",
        "choices": ["West Virginia", "Louisiana", "Arizona", " Oklahoma"],
        "answer": 0,
        "hint": "",
        "image": "image.png",
        "task": "closed choice",
        "grade": "grade2",
        "subject": "social science",
        "topic": "geography",
        "category": "Geography",
        "skill": "Read a map: cardinal directions",
        "lecture": "Maps have four cardinal directions.\nNorth is at the top.",
        "solution": "To find the answer, look at the compass rose. ",
        "split": "train",
    }
    second = {
        **first,
        "question": "Which figure of speech is used in this text?\nSing, O goddess,  the anger of Achilles",
        "choices": ["chiasmus", "apostrophe"],
        "answer": 1,
        "hint": "| word | use |\n| O | a call |",
        "image": None,
        "lecture": "",
        "subject": "language science",
    }
    return {
        "1": first,
        "2": second,
        "5": {**first, "split": "val"},
        "6": {**first, "split": "test"},
        "7": {**second, "split": "test"},
    }


def _write(corpus: Any, problems: dict[str, Any], **splits: list[Any]) -> None:
    corpus.write(FILE.path, problems)
    known: dict[str, list[Any]] = {"train": ["1", "2"], "val": ["5"], "test": ["6", "7"]}
    smaller = {"minitrain": ["1"], "minival": ["5"], "minitest": ["6"], "trainval": ["1", "2", "5"]}
    corpus.write(FILE.annotations, known | smaller | splits)


def test_a_question_about_a_picture_belongs_to_its_image(corpus: Any, problems: Any) -> None:
    _write(corpus, problems)
    image, _ = corpus.read(FILE)
    assert not corpus.rejects and corpus.tally.passed_over == {"question": 2, "dialogue": 1}
    assert isinstance(image, AnnotatedImage)
    assert (image.id, image.image.path) == ("d/1", "images/train/1/image.png")
    assert image.questions == (
        Question(
            "1",
            "Which of these states is farthest north?",
            "West Virginia",
            ("West Virginia",),
            ("West Virginia", "Louisiana", "Arizona", "Oklahoma"),
            kind="closed choice",
            rationales=(
                "Maps have four cardinal directions.\nNorth is at the top.\n\n"
                "To find the answer, look at the compass rose.",
            ),
        ),
    )


def test_a_question_without_a_picture_is_a_dialogue_that_keeps_its_lines(corpus: Any, problems: Any) -> None:
    _write(corpus, problems)
    _, dialogue = corpus.read(FILE)
    asked = "Which figure of speech is used in this text?\nSing, O goddess, the anger of Achilles"
    given = "| word | use |\n| O | a call |\nA. chiasmus\nB. apostrophe"
    reply = "B. apostrophe\n\nTo find the answer, look at the compass rose."
    assert isinstance(dialogue, Dialogue)
    assert (dialogue.id, dialogue.images, dialogue.licence) == ("d/2", (), "CC BY 4.0")
    assert dialogue.messages == (Message("user", f"{asked}\n{given}"), Message("assistant", reply))
    assert (dialogue.instruction, dialogue.input, dialogue.task) == (asked, given, "closed choice")


@pytest.mark.parametrize(
    ("split", "ids", "file"), [("validation", ["d/5"], "val/5"), ("test", ["d/6", "d/7"], "test/6")]
)
def test_other_splits_and_the_file_without_pid_splits(
    corpus: Any, problems: Any, split: str, ids: list[str], file: str
) -> None:
    _write(corpus, problems)
    for given in (FILE, ALONE):
        found = corpus.read(given, split=split)
        assert [one.id for one in found] == ids and not corpus.rejects
        assert found[0].image.path == f"images/{file}/image.png"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": 4}, "answer_not_among_choices"),
        ({"answer": -1}, "answer_not_among_choices"),
        ({"answer": "0"}, "row_malformed"),
        ({"answer": False}, "row_malformed"),
        ({"answer": None}, "row_malformed"),
        ({"choices": ["x", "x\n", "y"]}, "choices_repeated"),
        ({"choices": ["x", " "]}, "row_malformed"),
        ({"choices": {"A": "x"}}, "row_malformed"),
        ({"choices": []}, "answer_not_among_choices"),
        ({"question": "\n \n"}, "question_empty"),
        ({"question": 3}, "row_malformed"),
        ({"hint": ["a hint"]}, "row_malformed"),
        ({"lecture": 1}, "row_malformed"),
        ({"split": "minival"}, "split_mismatch"),
        ({"split": "val"}, "split_mismatch"),
        ({"split": None}, "row_malformed"),
    ],
)
@pytest.mark.parametrize("key", ["1", "2"])
def test_bad_rows_are_rejected_with_their_reason(
    corpus: Any, problems: Any, change: Any, reason: str, key: str
) -> None:
    problems[key].update(change)
    _write(corpus, problems)
    assert len(corpus.read(FILE)) == 1
    assert corpus.reasons() == {f"{'question' if key == '1' else 'dialogue'}/{key}": reason}


@pytest.mark.parametrize("key", ["question", "choices", "answer", "image", "split"])
def test_a_missing_key_rejects_the_row(corpus: Any, problems: Any, key: str) -> None:
    """A row that has lost its `image` is no row without a picture."""
    del problems["1"][key]
    _write(corpus, problems)
    assert len(corpus.read(FILE)) == 1
    assert corpus.reasons() == {f"{'dialogue' if key == 'image' else 'question'}/1": "row_malformed"}


def test_hint_lecture_solution_and_task_may_be_missing(corpus: Any, problems: Any) -> None:
    for row in problems.values():
        for key in ("hint", "lecture", "solution", "task"):
            del row[key]
    _write(corpus, problems)
    image, dialogue = corpus.read(FILE)
    assert not corpus.rejects
    (question,) = image.questions
    assert (question.context, question.rationales, question.kind) == ("", (), "")
    assert dialogue.input == "A. chiasmus\nB. apostrophe" and dialogue.messages[1].text == "B. apostrophe"


@pytest.mark.parametrize("image", [3, ["image.png"], True])
def test_an_image_that_is_no_name_rejects_the_row(corpus: Any, problems: Any, image: Any) -> None:
    problems["1"]["image"] = image
    _write(corpus, problems)
    corpus.read(FILE)
    assert corpus.reasons() == {"question/1": "row_malformed"}


@pytest.mark.parametrize(
    ("image", "reason"),
    [("choice_0.png", "image_missing"), ("../../../secret.png", "image_path"), (" ", "image_missing")],
)
def test_a_picture_that_is_not_there_takes_its_question_with_it(
    corpus: Any, problems: Any, image: str, reason: str
) -> None:
    problems["1"]["image"] = image
    _write(corpus, problems)
    assert [one.id for one in corpus.read(FILE)] == ["d/2"]
    assert corpus.reasons() == {"image/1": reason, "question/1": reason}


def test_a_row_that_is_no_object_and_an_empty_id_are_rejected(corpus: Any, problems: Any) -> None:
    _write(corpus, {**problems, "9": "problem", "": problems["2"]}, train=["1", "2", "9", ""])
    assert len(corpus.read(FILE)) == 2
    assert corpus.reasons() == {"question/9": "row_malformed", "dialogue/": "row_malformed"}


def test_an_id_that_is_repeated_in_the_file_is_not_lost(corpus: Any, problems: Any) -> None:
    _write(corpus, problems)
    text = json.dumps(problems)
    repeated = f'"1": {json.dumps(problems["2"])}, "2": {json.dumps(problems["2"])}'
    corpus.write(FILE.path, f"{text[:-1]}, {repeated}}}")
    assert [one.id for one in corpus.read(FILE)] == ["d/1", "d/2"]
    assert corpus.reasons() == {"dialogue/1": "duplicate_id", "dialogue/2": "duplicate_id"}


def test_pid_splits_must_agree(corpus: Any, problems: Any) -> None:
    _write(corpus, problems, train=["1", "8", 9], val=["5", "1", "7", "10"])
    assert corpus.read(FILE) == []
    assert corpus.reasons() == {
        "question/1": "split_mismatch",  # in train and in val: the same question to learn and to be scored on
        "dialogue/2": "split_mismatch",  # in none
        "dialogue/7": "split_mismatch",  # says test, but is also in val
        "question/8": "problem_missing",
        "question/9": "problem_missing",
    }
    assert "says train and val" in next(r.detail for r in corpus.rejects if r.key == "d/question/1")


@pytest.mark.parametrize(
    ("name", "tree", "said"),
    [
        ("problems.json", [], r"problems\.json: expected an object at the top"),
        ("pid_splits.json", {"train": ["1"]}, r"pid_splits\.json: expected a list under 'val'; the file has train"),
        ("pid_splits.json", ["1"], r"pid_splits\.json: expected an object with the key 'train'"),
    ],
)
def test_a_file_of_another_shape_is_an_error_that_names_it(
    corpus: Any, problems: Any, name: str, tree: Any, said: str
) -> None:
    _write(corpus, problems)
    corpus.write(name, tree)
    with pytest.raises(VistuneError, match=said):
        corpus.read(FILE)
