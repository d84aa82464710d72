"""A sample's messages as turns, and images in them as markers or content blocks."""

from __future__ import annotations

from typing import Any

from vistune.errors import VistuneError
from vistune.records import ImageRef, Message, Sample

MARKER = "<image>"
"""Stands for an image in the text of LLaVA, LLaMA-Factory, ms-swift and InternVL."""


def turns(sample: Sample) -> tuple[str, list[tuple[Message, Message]]]:
    """The system message (or none) and the questions with their answers.
    Raises VistuneError when user and assistant do not alternate, since no trainer could read the row."""
    talk = list(sample.messages)
    system = talk.pop(0).text if talk and talk[0].role == "system" else ""
    asked, answered = talk[::2], talk[1::2]
    proper = all(m.role == "user" for m in asked) and all(m.role == "assistant" for m in answered)
    if not talk or len(asked) != len(answered) or not proper:
        roles = ", ".join(m.role for m in sample.messages) or "none"
        raise VistuneError(f"sample {sample.id}: expected user and assistant in turn, found {roles}. Validate it.")
    return system, list(zip(asked, answered, strict=True))


def conversation(sample: Sample, after: str = "") -> tuple[str, list[dict[str, str]]]:
    """The system message (or none), and the turns as LLaVA and ShareGPT write them; `after`: see `marked`."""
    system, pairs = turns(sample)
    values = [
        {"from": role, "value": marked(sample, message, after)}
        for pair in pairs
        for role, message in zip(("human", "gpt"), pair, strict=True)
    ]
    return system, values


def shown(sample: Sample) -> list[ImageRef]:
    """The images in the order in which the messages show them; one that is shown twice occurs twice.
    Raises VistuneError when an image is shown nowhere, or one is shown that the sample does not have."""
    numbers = [n for message in sample.messages for _, n in _placed(message)]
    if set(numbers) != set(range(len(sample.images))):
        raise VistuneError(
            f"sample {sample.id}: it has {len(sample.images)} images, and its messages show numbers "
            f"{sorted(set(numbers))}. Validate it."
        )
    return [sample.images[n] for n in numbers]


def marked(sample: Sample, message: Message, after: str = "") -> str:
    """The text with a marker for each image; `after` stands between the text and markers before it.

    Raises VistuneError when the text itself holds a marker: a reader would look for one more image."""
    if MARKER in message.text:
        raise VistuneError(f"sample {sample.id}: its text holds {MARKER}, which this format reads as an image.")
    if not any(message.places):
        return (MARKER + after) * len(message.images) + message.text
    return "".join(MARKER if part is None else part for part in _parts(message))


def blocks(message: Message) -> list[dict[str, Any]]:
    """The content blocks of transformers' chat templates; the images are the next ones of the row."""
    parts = _parts(message)
    return [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]


def _parts(message: Message) -> list[str | None]:
    """The text cut where images are shown; None stands for an image."""
    parts: list[str | None] = []
    at = 0
    for place, _ in _placed(message):
        parts += [message.text[at:place], None]
        at = place
    parts.append(message.text[at:])
    return [part for part in parts if part != ""]


def _placed(message: Message) -> list[tuple[int, int]]:
    """Character and number of each image, in the order of reading."""
    places = message.places or (0,) * len(message.images)
    return sorted(zip(places, message.images, strict=True), key=lambda pair: pair[0])
