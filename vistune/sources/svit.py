"""SVIT (https://huggingface.co/datasets/BAAI/SVIT, folder `data`): conversation.json, complex_reasoning.json,
detail_description.json and referring_qa.json, each a list of `image_id` (of Visual Genome) and `conversations`
[{content: [{from: user|gpt, value}]}]. Every conversation is a dialogue, named `<file>/<image id>/<position>`.

Boxes of referring_qa stay in the text as they are written: `<st>man<ed> [x1, y1, x2, y2]`, corners as fractions of the
image's width and height with three decimals. They are not made regions, since GPT-4 wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.sources.lrv import genome_image
from vistune.sources.rows import Listing
from vistune.sources.spec import AnnotationFile
from vistune.sources.turns import arrange, dialogues, keep, read_turns

ROLES = {"user": "user", "gpt": "assistant"}


def read_svit(root: Path, file: AnnotationFile, listing: Listing) -> None:
    for row in dialogues(root, file, listing, unpack=_conversations):
        with row:
            if not isinstance(row.value, dict) or "content" not in row.value:
                row.need("conversations", list)
            image = genome_image(row)
            turns = read_turns(row.need("content", list), ROLES)
            keep(row, arrange(turns, 1, unmarked_first=True), [image], Path(row.file.path).stem)


def _conversations(values: Iterator[Any], file: AnnotationFile) -> Iterator[Any]:
    """One row per conversation; a row that holds none as it is, to be refused."""
    for value in values:
        held = value.get("conversations") if isinstance(value, dict) else None
        if not isinstance(held, list) or not held:
            yield value
            continue
        image, stem = value.get("image_id"), Path(file.path).stem
        for n, one in enumerate(held):
            row = one if isinstance(one, dict) else {"content": one}
            yield {"id": f"{stem}/{image}/{n}", "image_id": image, "content": row.get("content")}
