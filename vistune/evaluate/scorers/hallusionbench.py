"""HallusionBench (arXiv 2310.14566, utils.py): correctness per question, per figure and per question pair.

A judge says whether an answer agrees with the reference: 0 it does not, 1 it does, 2 it leaves it open. Asked without
a figure about what only a figure shows (category VS, figure 0), leaving it open is right too. aAcc counts questions;
fAcc figures all of whose questions are right (questions without a figure belong to none); qAcc questions that are right
about the original and about every edited figure.

The judge's reply is searched for "incorrect" before "correct". Without a judge, `yes_or_no` reads the answer itself, as
VLMEvalKit does; such scores are comparable with each other, not with the paper's.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

WRONG, RIGHT, UNCLEAR = 0, 1, 2

Row = tuple[str, str, str, str, str, int]  # category, subcategory, set, figure, question, verdict


def verdict(reply: str) -> int:
    """The judge's word.

    >>> verdict("Incorrect."), verdict("correct"), verdict("hm")
    (0, 1, 2)
    """
    said = reply.lower()
    return WRONG if "incorrect" in said else RIGHT if "correct" in said else UNCLEAR


def yes_or_no(text: str, gold: bool) -> int:
    """The verdict on an answer that says yes or no itself; UNCLEAR when it says neither or both.

    >>> yes_or_no("Yes, it is.", True), yes_or_no("No", True), yes_or_no("I cannot tell", True)
    (1, 0, 2)
    """
    words = set(re.findall(r"[a-z]+", text.lower()))
    if ("yes" in words) == ("no" in words):
        return UNCLEAR
    return RIGHT if ("yes" in words) == gold else WRONG


def accuracies(rows: Sequence[Row]) -> dict[str, float]:
    """aAcc, fAcc and qAcc; NaN where there is nothing to divide by (fAcc, when no question shows a figure).

    >>> accuracies([("VS", "chart", "0", "0", "0", 2), ("VS", "chart", "0", "1", "0", 1)])
    {'aAcc': 1.0, 'fAcc': 1.0, 'qAcc': 1.0}
    """
    questions: list[bool] = []
    figures: dict[tuple[str, ...], list[bool]] = defaultdict(list)
    pairs: dict[tuple[str, ...], list[bool]] = defaultdict(list)
    for category, subcategory, group, figure, question, said in rows:
        blind = category == "VS" and figure == "0"
        right = said == RIGHT or (blind and said == UNCLEAR)
        questions.append(right)
        pairs[category, subcategory, group, question].append(right)
        if not blind:
            figures[category, subcategory, group, figure].append(right)
    return {
        "aAcc": sum(questions) / len(questions) if questions else math.nan,
        "fAcc": sum(map(all, figures.values())) / len(figures) if figures else math.nan,
        "qAcc": sum(map(all, pairs.values())) / len(pairs) if pairs else math.nan,
    }


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """Without a judge: accuracy of the item, its row for the three accuracies, and whether the answer was unclear."""
    said = yes_or_no(answers[0], doc["gold"])
    row = (doc["category"], doc["subcategory"], doc["set"], doc["figure"], doc["question_id"], said)
    right = said == RIGHT or (said == UNCLEAR and doc["category"] == "VS" and doc["figure"] == "0")
    return {"accuracy": float(right), "aAcc": row, "fAcc": row, "qAcc": row, "unparsed": float(said == UNCLEAR)}


def aacc(rows: Sequence[Row]) -> float:
    return accuracies(rows)["aAcc"]


def facc(rows: Sequence[Row]) -> float:
    return accuracies(rows)["fAcc"]


def qacc(rows: Sequence[Row]) -> float:
    return accuracies(rows)["qAcc"]
