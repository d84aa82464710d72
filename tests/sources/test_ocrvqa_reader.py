import json
from typing import Any

import pytest

from vistune.errors import VistuneError
from vistune.records import Question
from vistune.sources import AnnotationFile

FILE = AnnotationFile("ocrvqa", "dataset.json")
FIRST, SECOND = "0761183272", "1492639400"


@pytest.fixture
def books(corpus: Any) -> dict[str, Any]:
    """Two books of the train split, one of each of the others, in the published layout."""
    corpus.images(f"{FIRST}.jpg", f"{SECOND}.gif", "1780670842.jpg", "043908X.png")
    first = {
        "imageURL": "http://ecx.images-amazon.com/images/I/61Y5cOdHJbL.jpg",
        "questions": ["Who wrote this book?", "What is the title of this  book?", "Is this a comedy book? "],
        "answers": ["Sandra Boynton", "Mom's Family Wall Calendar 2016", "No"],
        "title": "Mom's Family Wall Calendar 2016",
        "authorName": "Sandra Boynton",
        "genre": "Calendars",
        "split": 1,
    }
    url = "http://ecx.images-amazon.com/images/I/51.L%2B.gif"
    second = {**first, "imageURL": url, "questions": ["Who wrote this book?"], "answers": ["Unknown"]}
    third = {**second, "imageURL": "http://ecx.images-amazon.com/images/I/51.jpg?size=big", "split": 2}
    fourth = {**second, "imageURL": "http://ecx.images-amazon.com/images/I/51.png", "split": 3}
    return {FIRST: first, SECOND: second, "1780670842": third, "043908X": fourth}


def test_the_published_layout_is_read_without_a_reject(corpus: Any, books: Any) -> None:
    corpus.write(FILE.path, books)
    first, second = corpus.read(FILE)
    assert not corpus.rejects and corpus.tally.passed_over == {"question": 2}
    assert (first.id, first.image.path) == (f"d/{FIRST}", f"images/{FIRST}.jpg")
    assert first.questions == (
        Question(f"{FIRST}-0", "Who wrote this book?", "Sandra Boynton", ("Sandra Boynton",)),
        Question(
            f"{FIRST}-1",
            "What is the title of this book?",
            "Mom's Family Wall Calendar 2016",
            ("Mom's Family Wall Calendar 2016",),
        ),
        Question(f"{FIRST}-2", "Is this a comedy book?", "No", ("No",)),
    )
    assert second.image.path == f"images/{SECOND}.gif"
    assert second.captions == second.labels == ()  # nothing is made of title, author and genre


@pytest.mark.parametrize(("split", "name"), [("validation", "1780670842.jpg"), ("test", "043908X.png")])
def test_splits_are_numbers(corpus: Any, books: Any, split: str, name: str) -> None:
    corpus.write(FILE.path, books)
    (image,) = corpus.read(FILE, split=split)
    assert image.image.path == f"images/{name}" and not corpus.rejects
    assert corpus.tally.passed_over == {"question": 5}


def test_a_pattern_names_covers_that_were_all_stored_as_jpg(corpus: Any, books: Any) -> None:
    corpus.images(f"{SECOND}.jpg")
    corpus.write(FILE.path, books)
    assert corpus.read(FILE, image_pattern="{image_id}.jpg")[1].image.path == f"images/{SECOND}.jpg"
    assert not corpus.rejects


def test_an_id_with_a_letter_does_not_fit_a_pattern_for_numbers(corpus: Any, books: Any) -> None:
    corpus.images("0043908.png")
    books["043908X"]["split"] = 1
    corpus.write(FILE.path, {"43908": books[SECOND], "043908X": books["043908X"]})
    assert len(corpus.read(FILE, image_pattern="{image_id:07d}.png")) == 1
    assert corpus.reasons() == {"question/043908X-0": "row_malformed"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answers": ["Sandra Boynton"]}, "answers_unequal"),
        ({"questions": []}, "answers_unequal"),
        ({"questions": "Who?"}, "row_malformed"),
        ({"answers": None}, "row_malformed"),
    ],
)
def test_a_book_whose_lists_cannot_be_paired_is_one_reject(corpus: Any, books: Any, change: Any, reason: str) -> None:
    books[FIRST].update(change)
    books["043908X"].update(change)  # of another split: none of the reader's business
    corpus.write(FILE.path, books)
    assert [image.id for image in corpus.read(FILE)] == [f"d/{SECOND}"]
    assert corpus.reasons() == {f"question/{FIRST}": reason}


@pytest.mark.parametrize("split", [4, 0, True, "train", [1]])
def test_an_unknown_split_rejects_each_question(corpus: Any, books: Any, split: Any) -> None:
    books[FIRST]["split"] = split
    corpus.write(FILE.path, books)
    assert len(corpus.read(FILE)) == 1
    assert corpus.reasons() == {f"question/{FIRST}-{n}": "row_malformed" for n in range(3)}


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("", "No", "question_empty"),
        (None, "No", "row_malformed"),
        ("Is it?", "  ", "question_unanswered"),
        ("Is it?", 3, "row_malformed"),
        ("Is it?", None, "row_malformed"),
    ],
)
def test_a_bad_pair_leaves_the_others_of_its_book(
    corpus: Any, books: Any, question: Any, answer: Any, reason: str
) -> None:
    books[FIRST]["questions"][1], books[FIRST]["answers"][1] = question, answer
    corpus.write(FILE.path, books)
    first, _ = corpus.read(FILE)
    assert [q.id for q in first.questions] == [f"{FIRST}-0", f"{FIRST}-2"]
    assert corpus.reasons() == {f"question/{FIRST}-1": reason}


@pytest.mark.parametrize("url", [None, "", "http://ecx.images-amazon.com/images/I/61Y5cOdHJbL", 3])
def test_a_cover_without_an_extension_has_no_file_name(corpus: Any, books: Any, url: Any) -> None:
    books[SECOND]["imageURL"] = url
    corpus.write(FILE.path, books)
    assert len(corpus.read(FILE)) == 1
    assert corpus.reasons() == {f"question/{SECOND}-0": "row_malformed"}


def test_a_book_that_is_no_object_is_a_reject(corpus: Any, books: Any) -> None:
    corpus.write(FILE.path, {**books, "9": ["Who?"]})
    corpus.read(FILE)
    assert corpus.reasons() == {"question/9": "row_malformed"}


def test_an_id_that_is_repeated_in_the_file_is_not_lost(corpus: Any, books: Any) -> None:
    """`json.load` would keep the second book only, and say nothing."""
    again = {**books[SECOND], "answers": ["Somebody else"]}
    text = json.dumps(books)
    corpus.write(FILE.path, f'{text[:-1]}, "{SECOND}": {json.dumps(again)}}}')
    assert corpus.read(FILE)[1].questions[0].answer == "Unknown"
    assert corpus.reasons() == {f"question/{SECOND}-0": "duplicate_id"}


def test_covers_that_could_not_be_fetched_take_their_questions_with_them(corpus: Any, books: Any) -> None:
    (corpus.root / f"images/{SECOND}.gif").unlink()
    books["../../secret"] = books[SECOND]
    corpus.write(FILE.path, books)
    assert len(corpus.read(FILE)) == 1
    assert corpus.reasons() == {
        f"image/{SECOND}": "image_missing",
        f"question/{SECOND}-0": "image_missing",
        "image/../../secret": "image_path",
        "question/../../secret-0": "image_path",
    }


@pytest.mark.parametrize("tree", [[], "books"])
def test_a_file_of_another_shape_is_an_error_that_names_it(corpus: Any, tree: Any) -> None:
    corpus.write(FILE.path, json.dumps(tree))
    with pytest.raises(VistuneError, match=r"dataset\.json: expected an object at the top"):
        corpus.read(FILE)
