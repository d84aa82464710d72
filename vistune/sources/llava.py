"""LLaVA JSON (https://github.com/haotian-liu/LLaVA/blob/main/docs/Finetune_Custom_Data.md): a list, JSON lines or
parquet of `id`, `image` (absent: a text-only row; several: a list) and `conversations` of human and gpt.

Published files hold ids that are integers and ids that are text, ids used twice, stray white space, and further keys
beside `value`; none of this is an error. As many `<image>` markers as images is a must: the trainers that read this
format give an image without a marker to nobody.
"""

from __future__ import annotations

from pathlib import Path

from vistune.sources.rows import Listing
from vistune.sources.spec import AnnotationFile
from vistune.sources.turns import arrange, dialogues, keep, listed, read_turns, refuse_other_media

ROLES = {"human": "user", "gpt": "assistant"}


def read_llava(root: Path, file: AnnotationFile, listing: Listing) -> None:
    for row in dialogues(root, file, listing):
        with row:
            turns = read_turns(row.need("conversations", list), ROLES)
            refuse_other_media(row)
            images = listed(row.value.get("image"))
            keep(row, arrange(turns, len(images)), images)
