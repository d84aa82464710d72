"""ScienceQA: the letter in an answer, as LLaVA's eval_science_qa.py (the score papers report) finds it.

A letter A to E alone; else a letter followed by ". "; else the one match of `The answer is X.`, where the last sign may
be any; else the answer FAILED and is wrong. So "B." fails and "B. " is B. A letter beyond the choices is wrong. The IMG
score counts the questions that have a picture. lmms-eval takes a letter in either case, or a capital before a period.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

LETTERS = ("A", "B", "C", "D", "E")


def letter(text: str) -> str:
    """A to E, or another capital that the sentence names, or "FAILED".

    >>> letter("B"), letter("B. dog"), letter("The answer is B."), letter("B.")
    ('B', 'B', 'B', 'FAILED')
    """
    if text in LETTERS:
        return text
    if len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        return text[0]
    named: list[str] = re.findall(r"The answer is ([A-Z]).", text)
    return named[0] if len(named) == 1 else "FAILED"


def right(text: str, choices: int, gold: int) -> bool:
    """Whether the answer names choice number `gold` of so many."""
    found = letter(text)
    return found in LETTERS[:choices] and LETTERS.index(found) == gold


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy, and whether the answer had no letter."""
    return {
        "accuracy": float(right(answers[0], len(doc["choices"]), doc["gold"])),
        "unparsed": float(letter(answers[0]) == "FAILED"),
    }
