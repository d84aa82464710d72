"""VQA v2 question and annotation files (https://visualqa.org/vqa_v2_data.html), joined on `question_id`; OK-VQA has
the same layout.

`multiple_choices` is read when present (VQA v1's multiple-choice files). Images are those the data set's COCO files
list, else the data set's `image_pattern`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vistune.files import inside, read_json
from vistune.records import Question
from vistune.sources.questions import image_of, majority, question_text, read_choices, texts
from vistune.sources.rows import Listing, Malformed, Refused, section
from vistune.sources.spec import AnnotationFile


def read_questions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the answered questions of a pair of files."""
    path = inside(root, file.path)
    tree = read_json(path)
    rows = section(tree, "questions", path)
    answers = _answers(root, file, listing)
    licence = tree.get("license")
    default = listing.licence or (str(licence.get("name") or "") if isinstance(licence, dict) else "")
    asked: set[str] = set()
    for row in listing.each("question", rows, file, id="question_id"):
        asked.add(row.name)  # whatever becomes of the question, its answer was asked for
        with row:
            key, image = row.identifier("question_id"), row.identifier("image_id")
            text = question_text(row, "question")
            choices = read_choices(row, "multiple_choices", [])
            language = row.need("language", str, "en")
            answer = answers.get(key)
            if answer is None:
                raise Refused("question_unanswered", f"{file.annotations} has no usable answer to it.")
            if answer.image != image:
                detail = f"it asks about image {image}, but {file.annotations} answers for image {answer.image}."
                raise Refused("image_mismatch", detail)
            if choices and answer.agreed not in choices:
                raise Refused("answer_not_among_choices", f"{answer.agreed!r} is not among {', '.join(choices)}.")
            question = Question(key, text, answer.agreed, answer.given, choices, answer.kind, language)
            row.keep(image_of(row, listing.image_pattern, default), question)
    for key in sorted(answers.keys() - asked):
        listing.tally.entered["question"] += 1
        listing.refuse("question", key, "answer_unasked", f"{file.path} has no question for this answer.")


class _Answer(NamedTuple):
    image: str
    agreed: str
    given: tuple[str, ...]
    kind: str


def _answers(root: Path, file: AnnotationFile, listing: Listing) -> dict[str, _Answer]:
    """Answers by question id. Bad rows are rejected, and later their question."""
    found: dict[str, _Answer] = {}
    path = inside(root, file.annotations)
    rows = section(read_json(path), "annotations", path)
    for row in listing.each("question", rows, AnnotationFile(file.format, file.annotations), id="question_id"):
        row.name = f"answer-{row.name}"
        with row:
            key = row.identifier("question_id")
            people = row.need("answers", list, [])
            given = texts([a.get("answer") if isinstance(a, dict) else None for a in people], "answer")
            agreed = row.text("multiple_choice_answer", "") or (majority(given) if given else "")
            if not agreed:
                raise Malformed("multiple_choice_answer and answers are empty")
            if key in found:
                raise Refused("duplicate_id", "the question is answered before.")
            image, kind = row.identifier("image_id"), row.need("question_type", str, "")
            found[key] = _Answer(image, agreed, given or (agreed,), kind)
    listing.tally.entered["question"] -= len(found)  # a question and its answer are one row
    return found
