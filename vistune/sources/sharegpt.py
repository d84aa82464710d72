"""ShareGPT as LLaMA-Factory defines it (https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md), and its
`messages` flavour, which the OpenAI API, TRL and transformers' chat templates share.

- `conversations` [{from, value}] with `system` and `images` beside them; one `<image>` marker per image.
- `messages` [{role, content}], content a text or a list of blocks: {"type": "text", "text"}, and for an image
  {"type": "image"} (the next of `images`; the one at "index", if given), {"type": "image", "image" | "path" | "url"}
  or {"type": "image_url", "image_url": {"url"}}. Texts without any marker are about all `images`, shown first.

Rows that call tools are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vistune.sources.rows import Listing, Malformed, Refused, Row, need
from vistune.sources.spec import AnnotationFile
from vistune.sources.turns import (
    IMAGE,
    Turn,
    arrange,
    dialogues,
    keep,
    known_role,
    listed,
    read_turns,
    refuse_other_media,
)

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "observation": "",
    "function_call": "",
    "function": "",
    "tool": "",
}

NEXT = object()
"""Stands for an image block without an image of its own: the next of the row's images."""


def read_sharegpt(root: Path, file: AnnotationFile, listing: Listing) -> None:
    for row in dialogues(root, file, listing):
        with row:
            if row.need("tools", (str, list), ""):
                raise Refused("tools_unsupported", "the row describes tools to call.")
            messages = row.need("messages", list, None)
            images = listed(row.value.get("images")) or listed(row.value.get("image"))
            if messages is not None:
                turns, images = _read_messages(messages, images)
            else:
                turns = read_turns(row.need("conversations", list), ROLES)
            refuse_other_media(row)
            keep(row, arrange(_with_system(turns, row), len(images), messages is not None), images)


def _with_system(turns: list[Turn], row: Row) -> list[Turn]:
    """A system message among the turns goes before that of the row."""
    system = row.need("system", str, "")
    return [("system", system), *turns] if system.strip() and turns and turns[0][0] != "system" else turns


def _read_messages(messages: list[Any], images: list[Any]) -> tuple[list[Turn], list[Any]]:
    """The turns of messages, and the row's images in the order in which they are shown."""
    turns: list[Turn] = []
    shown: list[Any] = []
    for n, message in enumerate(messages):
        try:
            role = known_role(need(message, "role", str), ROLES, n)
            if message.get("tool_calls"):
                raise Refused("tools_unsupported", f"turn {n} calls tools.")
            content = need(message, "content", (str, list))
            turns.append((role, content if isinstance(content, str) else _read_blocks(content, images, shown)))
        except Malformed as problem:
            raise Malformed(f"turn {n}: {problem}") from None
    if all(image is NEXT for image in shown):
        return turns, images
    if NEXT in shown or len(images) not in (0, len(shown)):
        raise Refused("image_count", "some image blocks name their image and others do not, or more images are given.")
    return turns, shown


def _read_blocks(blocks: list[Any], images: list[Any], shown: list[Any]) -> str:
    """The text of content blocks, with a marker for each image; the images themselves are appended to `shown`."""
    text = ""
    for block in blocks:
        kind = need(block, "type", str)
        if kind == "text":
            text += need(block, "text", str)
        elif kind in ("image", "image_url"):
            text += IMAGE
            shown.append(_image_of(block, images))
        else:
            raise Refused("media_unsupported", f"a block of the type {kind!r:.40}; only text and images are read.")
    return text


def _image_of(block: dict[str, Any], images: list[Any]) -> Any:
    for key in ("image", "path", "url", "image_url"):
        held = block.get(key)
        if held:
            return need(held, "url", str) if key == "image_url" and isinstance(held, dict) else held
    index = need(block, "index", int, None)
    if index is None:
        return NEXT
    if not 0 <= index < len(images):
        raise Refused("image_count", f"a block shows image {index}, the row has {len(images)}.")
    return images[index]
