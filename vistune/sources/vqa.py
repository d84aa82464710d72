"""VQA v2 question and annotation files (https://visualqa.org/vqa_v2_data.html), joined on `question_id`.

`multiple_choices` is read when present (VQA v1's multiple-choice files). Images are those the data set's COCO files
list, else the data set's `image_pattern`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import inside, read_json
from vistune.records import Question
from vistune.sources.rows import Entry, Listing, Malformed, identifier, label, need, section
from vistune.sources.spec import AnnotationFile


def read_questions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the answered questions of a pair of files."""
    path = inside(root, file.path)
    tree = read_json(path)
    answers = _answers(root, file, listing)
    licence = tree.get("license") if isinstance(tree, dict) else None
    default = listing.licence or (str(licence.get("name") or "") if isinstance(licence, dict) else "")
    seen: set[str] = set()
    for position, row in enumerate(section(tree, "questions", path)):
        listing.tally.entered["question"] += 1
        name = label(row, "question_id", position)
        try:
            key, image = identifier(row, "question_id"), identifier(row, "image_id")
            text = " ".join(need(row, "question", str).split())
            choices = tuple(need_text(c, "multiple_choices") for c in need(row, "multiple_choices", list, []))
            language = need(row, "language", str, "en")
        except Malformed as problem:
            listing.refuse("question", name, "row_malformed", f"{file.path}: {problem}.")
            seen.add(name)  # its answer was asked for
            continue
        if key in seen:
            listing.refuse("question", name, "duplicate_id", f"{file.path}: the id occurs before.")
            continue
        seen.add(key)
        answer = answers.get(key)
        if not text:
            listing.refuse("question", name, "question_empty", f"{file.path}: the question has no text.")
        elif answer is None:
            listing.refuse("question", name, "question_unanswered", f"{file.annotations} has no usable answer to it.")
        elif answer["image"] != image:
            detail = f"it asks about image {image}, but {file.annotations} answers for image {answer['image']}."
            listing.refuse("question", name, "image_mismatch", detail)
        elif choices and answer["answer"] not in choices:
            detail = f"{answer['answer']!r} is not among {', '.join(choices)}."
            listing.refuse("question", name, "answer_not_among_choices", detail)
        elif image in listing.refused or (image not in listing.images and not listing.image_pattern):
            detail = f"{file.path}: image {image} is in no COCO file of the data set (and no image_pattern is set)."
            listing.refuse("question", name, "image_unknown", detail)
        else:
            if image not in listing.images:
                listing.tally.entered["image"] += 1
                place = expand(listing.image_pattern, row["image_id"])
                listing.images[image] = Entry(image, place, None, None, default, listing.attribution)
            question = Question(key, text, answer["answer"], answer["answers"], choices, answer["kind"], language)
            listing.images[image].questions.append(question)
    for key in sorted(answers.keys() - seen):
        listing.tally.entered["question"] += 1
        listing.refuse("question", key, "answer_unasked", f"{file.path} has no question for this answer.")


def expand(pattern: str, image_id: int | str) -> str:
    """The file name of an image from its id.

    >>> expand("COCO_val2014_{image_id:012d}.jpg", 42)
    'COCO_val2014_000000000042.jpg'
    """
    for value in (image_id, int(image_id) if str(image_id).isdigit() else image_id):
        try:
            return pattern.format(image_id=value)
        except (KeyError, IndexError, ValueError, AttributeError):
            continue
    raise VistuneError(
        f"image_pattern {pattern!r} does not fit image id {image_id!r}; "
        "expected something like '{image_id:012d}.jpg'."
    )


def need_text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Malformed(f"{what} holds {value!r:.80}, expected text")
    return " ".join(value.split())


def _answers(root: Path, file: AnnotationFile, listing: Listing) -> dict[str, dict[str, Any]]:
    """question id -> image, agreed answer, all answers, kind. Bad rows are left out: their question is rejected."""
    found: dict[str, dict[str, Any]] = {}
    path = inside(root, file.annotations)
    for position, row in enumerate(section(read_json(path), "annotations", path)):
        try:
            key = identifier(row, "question_id")
            given = tuple(need_text(need(a, "answer", str), "answer") for a in need(row, "answers", list, []))
            agreed = need(row, "multiple_choice_answer", str, "")
            if not agreed and given:
                agreed = Counter(given).most_common(1)[0][0]
            answer = {
                "image": identifier(row, "image_id"),
                "answer": need_text(agreed, "multiple_choice_answer"),
                "answers": given or (agreed,),
                "kind": need(row, "question_type", str, ""),
            }
        except Malformed as problem:
            listing.tally.entered["question"] += 1
            name = f"answer-{label(row, 'question_id', position)}"
            listing.refuse("question", name, "row_malformed", f"{file.annotations}: {problem}.")
            continue
        if key in found:
            listing.tally.entered["question"] += 1
            listing.refuse("question", f"answer-{key}", "duplicate_id", f"{file.annotations}: answered before.")
        else:
            found[key] = answer
    return found
