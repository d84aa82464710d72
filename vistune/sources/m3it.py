"""M3IT (https://huggingface.co/datasets/MMInstruction/M3IT): JSON lines of `instruction`, `inputs`, `outputs` and
`image_base64_str`, one image or a list of them in base64, shown before the instruction."""

from __future__ import annotations

from pathlib import Path

from vistune.sources.rows import Listing, Malformed, Refused
from vistune.sources.spec import AnnotationFile
from vistune.sources.turns import arrange, decode, dialogues, keep, listed, question


def read_m3it(root: Path, file: AnnotationFile, listing: Listing) -> None:
    for row in dialogues(root, file, listing):
        with row:
            asked, instruction, input = question(row.need("instruction", str), row.need("inputs", str, ""))
            output, held = row.need("outputs", str), listed(row.need("image_base64_str", (str, list)))
            if not held:
                raise Refused("image_empty", "image_base64_str holds no image.")
            if not all(isinstance(image, str) for image in held):
                raise Malformed("image_base64_str holds something that is no text")
            messages = arrange([("user", asked), ("assistant", output)], len(held), unmarked_first=True)
            images = [decode(image.partition(",")[2] if image.startswith("data:") else image) for image in held]
            keep(row, messages, images, instruction=instruction, input=input)
