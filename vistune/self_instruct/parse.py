"""A teacher's reply -> question and answer pairs, or `Unparsable`.

Prompts ask for JSON: `{"turns": [{"question": ..., "answer": ...}, ...]}`, or one such pair. Code fences and prose
around the object are tolerated, as is the older form of LLaVA (`Question:` / `===` / `Answer:`). Nothing is guessed: a
pair that lacks a side, or a side that is not text, makes the whole reply unparsable.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_TURNS = 40

Pair = tuple[str, str]

_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_LEGACY = re.compile(r"^\s*(question|answer)\s*:", re.IGNORECASE)


class Unparsable(Exception):
    """A reply that does not hold the form asked for; the text says why."""


def parse(text: str) -> list[Pair]:
    """The pairs of a reply, whitespace at their ends removed, at least one. Raises Unparsable, never anything else.

    >>> parse('{"turns": [{"question": "What is it?", "answer": "A cat."}]}')
    [('What is it?', 'A cat.')]
    >>> parse("Question:\\nWhat is it?\\n===\\nAnswer:\\nA cat.")
    [('What is it?', 'A cat.')]
    """
    if not text.strip():
        raise Unparsable("the reply is empty")
    try:
        pairs = _pairs(_json(text))
    except Unparsable:
        if not _LEGACY.match(text):
            raise
        pairs = _legacy(text)
    if not pairs:
        raise Unparsable("the reply has no question")
    if len(pairs) > MAX_TURNS:
        raise Unparsable(f"the reply has {len(pairs)} turns, more than {MAX_TURNS}")
    for question, answer in pairs:
        if not question or not answer:
            raise Unparsable("a question or an answer is empty")
    return pairs


def _json(text: str) -> Any:
    fenced = _FENCE.search(text)
    for candidate in (text, fenced.group(1) if fenced else "", text[text.find("{") : text.rfind("}") + 1]):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    raise Unparsable("the reply is not JSON")


def _pairs(value: Any) -> list[Pair]:
    if isinstance(value, dict) and "turns" in value:
        value = value["turns"]
    turns = value if isinstance(value, list) else [value]
    return [_pair(turn) for turn in turns]


def _pair(turn: Any) -> Pair:
    if not isinstance(turn, dict):
        raise Unparsable(f"a turn is {type(turn).__name__}, expected an object with question and answer")
    sides = []
    for key in ("question", "answer"):
        side = turn.get(key)
        if not isinstance(side, str):
            raise Unparsable(f"a turn's {key} is {type(side).__name__}, expected text")
        sides.append(_clean(side))
    return sides[0], sides[1]


def _legacy(text: str) -> list[Pair]:
    """Blocks between `===`, each headed `Question:` or `Answer:`, alternating."""
    sides: list[tuple[str, str]] = []
    for block in re.split(r"={3,}", text):
        if not block.strip():
            continue
        head = _LEGACY.match(block)
        if head is None:
            raise Unparsable("a block between === has no Question: or Answer: at its head")
        sides.append((head.group(1).lower(), _clean(block[head.end() :])))
    order = [role for role, _ in sides]
    if len(order) % 2 or order != ["question", "answer"] * (len(order) // 2):
        raise Unparsable("questions and answers do not alternate")
    return [(sides[i][1], sides[i + 1][1]) for i in range(0, len(sides), 2)]


def _clean(side: str) -> str:
    """Lone surrogates cannot be written as UTF-8; they come from broken escapes in JSON."""
    return side.encode("utf-8", "replace").decode().strip()
