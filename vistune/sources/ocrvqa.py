"""OCR-VQA (https://ocr-vqa.github.io): questions about book covers, `dataset.json` with one object per book.

A book's questions and answers are two lists of equal length. Its cover is stored under the id with the extension of
`imageURL`; `image_pattern` names covers that were stored otherwise (e.g. all as "{image_id}.jpg").
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from vistune.files import inside
from vistune.records import Question
from vistune.sources.questions import elsewhere, file_name, members, question_text
from vistune.sources.rows import Listing, Malformed, Refused, need
from vistune.sources.spec import AnnotationFile

SPLITS = {1: "train", 2: "validation", 3: "test"}


def read_questions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the questions of one file. Title, author and genre are not read: the questions ask about them."""
    for row in listing.each("question", _asked(members(inside(root, file.path))), file, id="id"):
        with row:
            if elsewhere(row, "split", SPLITS):
                continue
            if "problem" in row.value:
                raise row.value["problem"]
            book, text, answer = row.value["book"], question_text(row, "question"), row.text("answer")
            if not answer:
                raise Refused("question_unanswered", "it has no answer.")
            listing.image(book, _cover(book, row.text("imageURL"), listing.image_pattern))
            row.keep(book, Question(row.name, text, answer, (answer,)))


def _asked(books: list[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row per question. A book whose questions and answers cannot be paired is one row with its problem."""
    for book, value in books:
        try:
            questions, answers = need(value, "questions", list), need(value, "answers", list)
            if len(questions) != len(answers):
                raise Refused("answers_unequal", f"{len(questions)} questions but {len(answers)} answers.")
        except (Malformed, Refused) as problem:
            yield {"id": book, "split": value.get("split") if isinstance(value, dict) else None, "problem": problem}
            continue
        shared = {"book": book, "imageURL": value.get("imageURL"), "split": value.get("split")}
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            yield {"id": f"{book}-{number}", "question": question, "answer": answer, **shared}


def _cover(book: str, url: str, pattern: str) -> str:
    """The file name of a book's cover.

    >>> _cover("0761183272", "http://ecx.images-amazon.com/images/I/61Y5cOdHJbL.jpg", "")
    '0761183272.jpg'
    """
    if pattern:
        return file_name(pattern, book)
    extension = PurePosixPath(url.partition("?")[0]).suffix
    if not extension:
        raise Malformed(f"imageURL is {url!r:.80}, which has no extension")
    return book + extension
