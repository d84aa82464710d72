"""MMMU (arXiv 2311.16502, mmmu/utils/eval_utils.py): which choice an answer means, and open answers.

Multiple choice: the last "(X)" of the answer, else the last X between spaces, else, in answers of more than five words,
the last choice whose text it contains. "b", "**B**" and "B: text" mean nothing to the official parser, which then draws
a choice at random from a global generator (so its score depends on the order of calls). Here the draw is a hash of the
question's id, and the share of such answers is reported as `unparsed`.

Open: numbers are rounded to two decimals and compared; a gold text must be contained in one of the phrases that follow
"is", "so", "answer", "=", ... A single character is wanted with a space beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vistune.hashing import choose

MARKS = (",", ".", "!", "?", ";", ":", "'")
KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",  # with commas
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",  # scientific
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",  # plain
)
LONG = 5  # words beyond which the text of a choice may stand for it


def choice(response: str, choices: Mapping[str, str]) -> str | None:
    """The letter that an answer means; None where the official parser draws one.

    >>> pears = {"A": "red apple", "B": "green pear"}
    >>> choice("(A) or rather (B)", pears), choice("B.", pears), choice("b", pears)
    ('B', 'B', None)
    """
    for mark in MARKS:
        response = response.strip(mark)
    said = f" {response} "
    for form in ("({})", " {} "):
        places = {letter: said.rfind(form.format(letter)) for letter in choices if form.format(letter) in said}
        if places:
            return _last(places)
    if len(said.split()) <= LONG:
        return None
    low = said.lower()
    return _last({letter: low.rfind(text.lower()) for letter, text in choices.items() if text.lower() in low})


def _last(places: Mapping[str, int]) -> str | None:
    return max(places, key=lambda letter: places[letter]) if places else None


def open_answers(response: str) -> list[str | float]:
    """The texts and numbers an open answer holds, normalised, each once and in order.

    >>> open_answers("So it is about 3.14159")
    ['about 3.14159', 3.14]
    """
    found: dict[str | float, None] = {}
    phrases = _key_phrases(response)
    for text in [*phrases, *(n for phrase in phrases for form in NUMBERS for n in re.findall(form, phrase))]:
        found |= dict.fromkeys(_normal(text))
    return list(found)


def _key_phrases(response: str) -> list[str]:
    """What follows an indicator in each line, else the whole answer. The pattern's full stop before a capital never
    matches, since the text is lower-cased first; that is the official behaviour."""
    said = response.strip().strip(".").lower()
    lines = re.split(r"\.\s(?=[A-Z])|\n", said)
    keys = []
    for number, line in enumerate(lines):
        indicators = (*KEYS, "=") if number == len(lines) - 1 else KEYS
        tails = [line.split(indicator)[-1].strip() for indicator in indicators if indicator in line]
        shortest = ""
        for tail in tails:  # an empty tail gives way to the next one, and a later one never does to it
            if not shortest or len(tail) < len(shortest):
                shortest = tail
        if shortest and shortest not in MARKS:
            keys.append(shortest)
    return keys or [said]


def _normal(text: str) -> list[str | float]:
    """A number rounded to two decimals, else the text in lower case; one character only beside a space."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def open_right(response: str, answer: str | Sequence[str]) -> bool:
    """Whether an open answer holds a gold one.

    >>> open_right("The total is $24,500", "24500"), open_right("no idea", "5")
    (True, False)
    """
    golds = [gold for one in ([answer] if isinstance(answer, str) else answer) for gold in _normal(one)]
    for said in open_answers(response):
        if isinstance(said, float):
            if said in golds:
                return True
        elif any(isinstance(gold, str) and gold in said for gold in golds):
            return True
    return False


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy, and whether a choice had to be drawn."""
    if not doc["choices"]:
        return {"accuracy": float(open_right(answers[0], doc["answers"])), "unparsed": 0.0}
    letters = {chr(ord("A") + n): text for n, text in enumerate(doc["choices"])}
    said = choice(answers[0], letters)
    drawn = said or choose(list(letters), 0, "mmmu", doc["id"])
    return {"accuracy": float(drawn == chr(ord("A") + doc["gold"])), "unparsed": float(said is None)}
