"""A-OKVQA (https://github.com/allenai/aokvqa): questions with four choices, ten direct answers and three rationales.

The answer is the correct choice; without one, what most people answered directly. The test split publishes neither,
so its questions are rejected as unanswered. Images are those of COCO 2017.
"""

from __future__ import annotations

from pathlib import Path

from vistune.files import inside
from vistune.records import Question
from vistune.sources.questions import (
    chosen,
    elsewhere,
    image_of,
    majority,
    question_text,
    read_choices,
    rows_at_top,
    texts,
)
from vistune.sources.rows import Listing
from vistune.sources.spec import AnnotationFile

IMAGES = "{image_id:012d}.jpg"


def read_questions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the questions of one file."""
    pattern = listing.image_pattern or IMAGES
    for row in listing.each("question", rows_at_top(inside(root, file.path)), file, id="question_id"):
        with row:
            if elsewhere(row, "split"):
                continue
            key, text = row.identifier("question_id"), question_text(row, "question")
            choices = read_choices(row, "choices")
            given = texts(row.need("direct_answers", list, []), "direct_answers")
            index = row.need("correct_choice_idx", int, None)
            if index is None:
                answer, choices = majority(given), ()  # which choice is right is not said
            else:
                answer = chosen(choices, index)
            rationales = texts(row.need("rationales", list, []), "rationales")
            row.keep(
                image_of(row, pattern), Question(key, text, answer, given or (answer,), choices, rationales=rationales)
            )
