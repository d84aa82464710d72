"""MMBench (arXiv 2307.06281): which choice an answer means, and circular evaluation.

A question is asked once for every rotation of its choices and is right only when all are (CircularEval); the first
rotation alone is VanillaEval, which is several points higher. What an answer means follows VLMEvalKit's
matching_util.py, of the same authors: an answer that an API failed to give means nothing; a refusal is "Z"; the only
choice letter that stands alone, if within the last four words; else the letter in "answer is X"; else the only choice
whose text the answer contains, if the answer is at most twice as long as all choices together. What still means nothing
is wrong here (judge-free mode), never drawn at random as VLMEvalKit does when its judge fails.

How tools differ: older copies (lmms-eval) take a letter wherever it stands, refuse "A" in answers of more than three
words, and let a judge read the rest. VLMEvalKit refuses that "A" only when it logs verbosely; not here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

API_FAILURE = "Failed to obtain answer via API"
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
REFUSED = "Z"
SPACES = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
NAMED = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
LAST_WORDS = 4

Turn = tuple[str, int, bool]  # question, number of the rotation, right


def choice(answer: str, choices: Mapping[str, str]) -> str | None:
    """The letter that an answer means, "Z" for a refusal, None when it cannot be told.

    >>> pets = {"A": "teddy bear", "B": "rabbit", "C": "cat"}
    >>> choice("B.", pets), choice("The cat", pets), choice("B or C", pets)
    ('B', 'C', None)
    """
    named = {letter: str(text) for letter, text in choices.items()}  # a choice may be a number
    return _by_letter(answer, named) or _by_text(answer, named)


def _by_letter(answer: str, choices: Mapping[str, str]) -> str | None:
    if API_FAILURE in answer:
        return None
    if any(refusal in answer for refusal in REFUSALS):
        return REFUSED
    words = answer.translate(SPACES).split()
    named = [letter for letter in choices if letter in words]
    if len(named) == 1 and words.index(named[0]) >= len(words) - LAST_WORDS:
        return named[0]
    if not named and REFUSED in words:
        return REFUSED
    found = NAMED.search(answer)
    letter = found.group(1).upper() if found else ""
    return letter if letter in choices else None


def _by_text(answer: str, choices: Mapping[str, str]) -> str | None:
    said = answer.lower()
    if len(said) > 2 * sum(len(text) for text in choices.values()):
        return None
    held = [letter for letter, text in choices.items() if text.lower() in said]
    return held[0] if len(held) == 1 else None


def circular(turns: Sequence[Turn]) -> float:
    """Share of questions that were right under every rotation.

    >>> circular([("q1", 0, True), ("q1", 1, False), ("q2", 0, True), ("q2", 1, True)])
    0.5
    """
    questions: dict[str, list[bool]] = defaultdict(list)
    for question, _, right in turns:
        questions[question].append(right)
    return sum(map(all, questions.values())) / len(questions)


def vanilla(turns: Sequence[Turn]) -> float:
    """Share of questions that were right as they stand in the file."""
    first = [right for _, rotation, right in turns if rotation == 0]
    return sum(first) / len(first)


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy of one rotation, its turn for the two totals, and whether the answer named no choice."""
    letters = {chr(ord("A") + n): text for n, text in enumerate(doc["choices"])}
    said = choice(answers[0], letters)
    right = said == chr(ord("A") + doc["gold"])
    turn = (doc["group"], doc["rotation"], right)
    return {"accuracy": float(right), "circular": turn, "vanilla": turn, "unparsed": float(said is None)}
