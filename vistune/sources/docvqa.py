"""DocVQA (Single Document VQA, https://www.docvqa.org): questions about scanned pages, each with its valid answers.

Answers are text of the page, except those of "Yes/No" questions. The test split has none, so its questions are
rejected as unanswered. `image` is a path such as "documents/xnbl0037_1.png", and names the page.
"""

from __future__ import annotations

from pathlib import Path

from vistune.files import inside, read_json
from vistune.records import Question
from vistune.sources.questions import elsewhere, majority, question_text, texts
from vistune.sources.rows import Listing, section
from vistune.sources.spec import AnnotationFile


def read_questions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the questions of one file."""
    path = inside(root, file.path)
    for row in listing.each("question", section(read_json(path), "data", path), file, id="questionId"):
        with row:
            if elsewhere(row, "data_split"):
                continue
            key, text, page = row.identifier("questionId"), question_text(row, "question"), row.identifier("image")
            given = texts(row.need("answers", list, []), "answers")
            kinds = texts(row.need("question_types", list, []), "question_types")
            answer = majority(given)
            extractive = "yes/no" not in [kind.casefold() for kind in kinds]
            listing.image(page, page)
            row.keep(page, Question(key, text, answer, given, kind=", ".join(kinds), extractive=extractive))
