"""Pieces of text exchanged for others, and where characters are afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vistune.records import Message

Edit = tuple[int, int, str]
"""First character, end, and what stands there instead."""


def edited(message: Message, edits: Sequence[Edit]) -> Message:
    """The message after the edits, which come in order and do not overlap; pictures keep their places.

    >>> edited(Message("user", "a cat and a dog", (0,), (5,)), [(2, 5, "lion"), (12, 15, "fox")])
    Message(role='user', text='a lion and a fox', images=(0,), places=(6,))
    """
    pieces, at = [], 0
    for start, end, new in edits:
        pieces += [message.text[at:start], new]
        at = end
    text = "".join([*pieces, message.text[at:]])
    return replace(message, text=text, places=tuple(shifted(edits, place) for place in message.places))


def shifted(edits: Sequence[Edit], at: int) -> int:
    """Where the character `at` is after the edits; none of them may begin before it and end behind it."""
    return at + sum(len(new) - (end - start) for start, end, new in edits if end <= at)
