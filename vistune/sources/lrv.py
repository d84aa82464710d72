"""LRV-Instruction (https://github.com/FuxiaoLiu/LRV-Instruction): a list of `image_id` (of Visual Genome), `question`,
`answer` and `task`; each row is a dialogue of its own, named by its image. The published evaluation set has no answers
and is refused row by row.

An image's file is the one that another file of the data set lists (`vg_images`), or what `image_pattern` says, or
`<image_id>.jpg`, as the data comes. SVIT names its images in the same way.
"""

from __future__ import annotations

from pathlib import Path

from vistune.sources.questions import expand
from vistune.sources.rows import Listing, Refused, Row
from vistune.sources.spec import AnnotationFile
from vistune.sources.turns import arrange, dialogues, keep


def read_lrv(root: Path, file: AnnotationFile, listing: Listing) -> None:
    for row in dialogues(root, file, listing, id="image_id"):
        with row:
            image = genome_image(row)
            turns = [("user", row.need("question", str)), ("assistant", row.need("answer", str))]
            keep(row, arrange(turns, 1, unmarked_first=True), [image], row.text("task", ""))


def genome_image(row: Row) -> str:
    """The file of the image that `image_id` names. Raises Refused: `image_unknown`."""
    key, listing = row.identifier("image_id"), row.listing
    if key in listing.refused:
        raise Refused("image_unknown", f"image {key} was refused.")
    if key in listing.images:
        return listing.images[key].file
    return expand(listing.image_pattern or "{image_id}.jpg", key)
