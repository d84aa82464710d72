"""MME (arXiv 2306.13394): two yes/no questions about each picture, 14 subtasks.

The official calculation.py lower-cases the answer (without stripping it): "yes" or "no" as they are, else the first of
them that is found within the first four characters, so that "know", "now" and "none" are "no", else "other", which is
wrong. A subtask scores 100 x accuracy + 100 x the share of pictures with both questions right ("accuracy+"); perception
is the sum of 10 subtasks (at most 2000), cognition of 4 (at most 800). "MME" in papers is one of the two, or their sum.

The script pairs lines by their order in the file; here questions are paired by their picture, which is the same for the
published files. lmms-eval strips, drops periods and takes y/n.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vistune.errors import VistuneError

PERCEPTION = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"),
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")

Row = tuple[str, str, bool]  # subtask, picture, right


def answer(text: str) -> str:
    """ "yes", "no" or "other".

    >>> answer("Yes."), answer("know"), answer("  yes")
    ('yes', 'no', 'other')
    """
    said = text.lower()
    if said in ("yes", "no"):
        return said
    return next((word for word in ("yes", "no") if word in said[:4]), "other")


def subtask(rights: Iterable[tuple[str, bool]]) -> float:
    """Score of a subtask, 0 to 200, from (picture, right) of each question.

    >>> subtask([("a", True), ("a", False), ("b", True), ("b", True)])
    125.0
    """
    pictures: dict[str, list[bool]] = defaultdict(list)
    for picture, right in rights:
        pictures[picture].append(right)
    odd = {picture: len(both) for picture, both in pictures.items() if len(both) != 2}
    if odd or not pictures:
        picture, count = next(iter(odd.items()), ("", 0))
        raise VistuneError(
            f"MME asks two questions about each picture, but {picture or 'no picture'} has {count}. Score whole "
            "pictures (evaluate.limit counts pictures), with the published question files."
        )
    total = sum(len(both) for both in pictures.values())
    return 100 * sum(map(sum, pictures.values())) / total + 100 * sum(map(all, pictures.values())) / len(pictures)


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy of the item, and its row for the two totals."""
    right = answer(answers[0]) == doc["answer"].lower()
    row = (doc["task"], doc["images"][0]["path"], right)
    return {"accuracy": float(right), "perception": row, "cognition": row}


def perception(rows: Sequence[Row]) -> float:
    """Sum of the subtasks of perception that were asked."""
    return _total(rows, PERCEPTION)


def cognition(rows: Sequence[Row]) -> float:
    return _total(rows, COGNITION)


def _total(rows: Sequence[Row], names: Sequence[str]) -> float:
    found: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for name, picture, right in rows:
        found[name].append((picture, right))
    return sum(subtask(found[name]) for name in names if name in found)
