"""ScienceQA (https://scienceqa.github.io): school questions with choices, a hint, a lecture and a solution.

`problems.json` holds one object per question; `pid_splits.json`, if given, must agree with the split each one states.
Pictures are `<split>/<id>/image.png`. About half of the questions have none, and no `AnnotatedImage` can hold them:
they become dialogues of text alone, in which the question, its hint and its choices (lettered, in the order of the
file) are answered by letter and choice, lecture and solution.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vistune.files import inside, read_json
from vistune.records import Message, Question
from vistune.sources import turns
from vistune.sources.questions import SPLITS, chosen, elsewhere, members, read_choices
from vistune.sources.rows import Listing, Refused, Row, identifier, section
from vistune.sources.spec import AnnotationFile

FOLDERS = {split: str(name) for name, split in SPLITS.items()}
"""Where the pictures of a split lie."""


def read_problems(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the questions about pictures to their images, and the others as dialogues."""
    problems = members(inside(root, file.path))
    splits = _splits(root, file) if file.annotations else None
    seen: set[str] = set()
    for kind in ("question", "dialogue"):
        part = [(key, value) for key, value in problems if _kind(value) == kind]
        for (key, _), row in zip(part, listing.each(kind, (value for _, value in part), file, id=""), strict=True):
            row.name = key
            with row:
                if splits is not None and splits.get(key) != [row.need("split", str)]:
                    named = " and ".join(splits.get(key, ["none"]))
                    raise Refused(
                        "split_mismatch", f"its split is {row.value['split']}, {file.annotations} says {named}."
                    )
                if elsewhere(row, "split"):
                    continue
                identifier({"id": key}, "id")
                picture, question = row.need("image", (str, type(None))), _question(row)
                if key in seen:
                    raise Refused("duplicate_id", "the id occurs before.")
                seen.add(key)
                if kind == "question":
                    listing.image(key, f"{FOLDERS[listing.split]}/{key}/{picture}")
                    row.keep(key, question)
                else:
                    _keep_text_only(row, question)
    if splits is not None:
        known = {key for key, _ in problems}
        for key in sorted(key for key, named in splits.items() if FOLDERS[listing.split] in named and key not in known):
            listing.tally.entered["question"] += 1
            listing.refuse("question", key, "problem_missing", f"{file.annotations} lists it, {file.path} has it not.")


def _splits(root: Path, file: AnnotationFile) -> dict[str, list[str]]:
    """Splits by question id: one each, unless the file is damaged. The smaller splits it also has are not read."""
    path = inside(root, file.annotations)
    tree = read_json(path)
    found: dict[str, list[str]] = {}
    for name in FOLDERS.values():
        for key in section(tree, name, path):
            found.setdefault(str(key), []).append(name)
    return found


def _kind(problem: Any) -> str:
    return "dialogue" if isinstance(problem, dict) and problem.get("image") in (None, "") else "question"


def _question(row: Row) -> Question:
    text = _lines(row, "question")
    if not text:
        raise Refused("question_empty", "the question has no text.")
    choices = read_choices(row, "choices")
    answer = chosen(choices, row.need("answer", int))
    reasons = [part for part in (_lines(row, "lecture", ""), _lines(row, "solution", "")) if part]
    return Question(
        row.name,
        text,
        answer,
        (answer,),
        choices,
        kind=row.text("task", ""),
        context=_lines(row, "hint", ""),
        rationales=("\n\n".join(reasons),) if reasons else (),
    )


def _lines(row: Row, key: str, default: Any = ...) -> str:
    """Text whose lines are kept: verses, tables and paragraphs lose their sense on one line."""
    return "\n".join(" ".join(line.split()) for line in row.need(key, str, default).splitlines()).strip()


def _keep_text_only(row: Row, question: Question) -> None:
    lettered = [f"{chr(ord('A') + n)}. {choice}" for n, choice in enumerate(question.choices)]
    asked = "\n".join(filter(None, [question.context, *lettered]))
    reply = "\n\n".join([lettered[question.choices.index(question.answer)], *question.rationales])
    messages = (Message("user", f"{question.text}\n{asked}"), Message("assistant", reply))
    turns.keep(row, messages, (), question.kind, instruction=question.text, input=asked)
