"""POPE (arXiv 2305.10355): is a named object in the picture, asked about random, popular and adversarial objects.

The official evaluate.py reads the text before the first period, drops commas, and takes the answer for "no" when one
of the words between single spaces is exactly No, not or no. All else is "yes": NO, nope, "no,yes", and nothing at all;
"I do not know" is a "no". A model that says nothing useful thus has a yes ratio near 1, which is why that ratio is
always reported. "yes" is the positive class.

Where nothing was answered with yes, precision divides by zero in the script; precision, recall and F1 are 0 here.
lmms-eval wants exactly "yes" or "no" ("Yes." is wrong), and its yes_ratio is that of the truth. LLaVA reports the mean
F1 over the three settings; its file for `random` has 2,910 questions, the authors' 3,000.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Pair = tuple[bool, bool]  # (said yes, yes is right)


def answer(text: str) -> str:
    """ "yes" or "no".

    >>> answer("There is no dog"), answer("NO"), answer("Yes. But not red")
    ('no', 'yes', 'yes')
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def scores(pairs: Sequence[Pair]) -> dict[str, float]:
    """accuracy, precision, recall, f1 and yes_ratio of (said yes, yes is right) pairs.

    >>> scores([(True, True), (True, False), (False, False), (False, True)])["f1"]
    0.5
    """
    hits = sum(said and right for said, right in pairs)
    said, right = sum(said for said, _ in pairs), sum(right for _, right in pairs)
    precision, recall = hits / said if said else 0.0, hits / right if right else 0.0
    return {
        "accuracy": sum(said == right for said, right in pairs) / len(pairs),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "yes_ratio": said / len(pairs),
    }


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy and yes_ratio of the item; the pair for what is computed over all items."""
    said, right = answer(answers[0]) == "yes", doc["answer"] == "yes"
    pair = (said, right)
    return {
        "accuracy": float(said == right),
        "yes_ratio": float(said),
        "precision": pair,
        "recall": pair,
        "f1": pair,
    }


def precision(pairs: Sequence[Pair]) -> float:
    return scores(pairs)["precision"]


def recall(pairs: Sequence[Pair]) -> float:
    return scores(pairs)["recall"]


def f1(pairs: Sequence[Pair]) -> float:
    return scores(pairs)["f1"]
