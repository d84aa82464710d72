from typing import Any

import pytest

from vistune.errors import VistuneError
from vistune.records import Question
from vistune.sources import AnnotationFile

FILE = AnnotationFile("docvqa", "train_v1.0.json")


def _row(number: int, page: int, question: str, kinds: list[str], answers: list[str]) -> dict[str, Any]:
    return {
        "questionId": number,
        "question": question,
        "question_types": kinds,
        "image": f"documents/xnbl0037_{page}.png",
        "docId": 279,
        "ucsf_document_id": "xnbl0037",
        "ucsf_document_page_no": str(page),
        "answers": answers,
        "data_split": "train",
    }


@pytest.fixture
def rows(corpus: Any) -> list[dict[str, Any]]:
    corpus.images("documents/xnbl0037_1.png", "documents/xnbl0037_2.png")
    return [
        _row(337, 1, "what is the date mentioned in this letter?", ["handwritten", "form"], ["1/8/93"]),
        _row(338, 1, "what is the contact person name\nmentioned?", ["form"], ["P. Carter", "p. carter"]),
        _row(339, 2, "Is the budget signed?", ["Image/Photo", "Yes/No"], ["Yes"]),
    ]


def _write(corpus: Any, rows: list[Any], split: str = "train") -> None:
    head = {"dataset_name": "docvqa", "dataset_version": "0.1", "dataset_split": split}
    corpus.write(FILE.path, {**head, "data": rows})


def test_the_published_layout_is_read_without_a_reject(corpus: Any, rows: Any) -> None:
    _write(corpus, rows)
    first, second = corpus.read(FILE)
    assert not corpus.rejects
    assert (first.id, first.image.path) == ("d/documents/xnbl0037_1.png", "images/documents/xnbl0037_1.png")
    assert first.questions == (
        Question(
            "337",
            "what is the date mentioned in this letter?",
            "1/8/93",
            ("1/8/93",),
            kind="handwritten, form",
            extractive=True,
        ),
        Question(
            "338",
            "what is the contact person name mentioned?",
            "P. Carter",
            ("P. Carter", "p. carter"),
            kind="form",
            extractive=True,
        ),
    )
    (question,) = second.questions
    assert (question.answer, question.extractive) == ("Yes", False)  # no text of the page


def test_pages_of_equal_name_in_different_folders_stay_apart(corpus: Any, rows: Any) -> None:
    rows[2]["image"] = "more/xnbl0037_1.png"
    corpus.images("more/xnbl0037_1.png")
    _write(corpus, rows)
    pages = {page.id: len(page.questions) for page in corpus.read(FILE)}
    assert pages == {"d/documents/xnbl0037_1.png": 2, "d/more/xnbl0037_1.png": 1}


def test_the_test_split_publishes_no_answers(corpus: Any, rows: Any) -> None:
    for row in rows:
        del row["answers"]
        row.update(data_split="test", question_types=None)
    _write(corpus, rows, "test")
    assert corpus.read(FILE) == [] and not corpus.rejects
    corpus.read(FILE, split="test")
    assert corpus.reasons() == dict.fromkeys(["question/337", "question/338", "question/339"], "question_unanswered")


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"answers": []}, "337", "question_unanswered"),
        ({"answers": ["", "\t"]}, "337", "question_unanswered"),
        ({"answers": "1/8/93"}, "337", "row_malformed"),
        ({"answers": [["1/8/93"]]}, "337", "row_malformed"),
        ({"question": "  "}, "337", "question_empty"),
        ({"question": {}}, "337", "row_malformed"),
        ({"question_types": "form"}, "337", "row_malformed"),
        ({"image": None}, "337", "row_malformed"),
        ({"image": ""}, "337", "row_malformed"),
        ({"questionId": 1.5}, "#0", "row_malformed"),
        ({"questionId": "half \ud83d"}, "half \\ud83d", "row_malformed"),
        ({"questionId": 338}, "338", "duplicate_id"),
        ({"data_split": "dev"}, "337", "row_malformed"),
        ({"data_split": ["train"]}, "337", "row_malformed"),
    ],
)
def test_bad_rows_are_rejected_with_their_reason(corpus: Any, rows: Any, change: Any, key: str, reason: str) -> None:
    rows[0].update(change)
    _write(corpus, rows)
    first, _ = corpus.read(FILE)
    assert len(first.questions) == 1
    assert corpus.reasons() == {f"question/{key}": reason}


@pytest.mark.parametrize("key", ["questionId", "question", "image"])
def test_a_missing_key_rejects_the_row(corpus: Any, rows: Any, key: str) -> None:
    del rows[0][key]
    _write(corpus, [*rows, None])
    corpus.read(FILE)
    name = "#0" if key == "questionId" else "337"
    assert corpus.reasons() == {f"question/{name}": "row_malformed", "question/#3": "row_malformed"}


@pytest.mark.parametrize(
    ("image", "reason"),
    [("documents/gone_1.png", "image_missing"), ("../train_v1.0.json", "image_path"), ("documents", "image_missing")],
)
def test_a_page_that_is_not_there_takes_its_question_with_it(corpus: Any, rows: Any, image: str, reason: str) -> None:
    rows[0]["image"] = image
    _write(corpus, rows)
    assert len(corpus.read(FILE)) == 2
    assert corpus.reasons() == {f"image/{image}": reason, "question/337": reason}


def test_a_file_of_another_shape_is_an_error_that_names_it(corpus: Any) -> None:
    corpus.write(FILE.path, {"questions": []})
    with pytest.raises(VistuneError, match=r"train_v1\.0\.json: expected a list under 'data'; the file has questions"):
        corpus.read(FILE)
