"""The Cauldron (https://huggingface.co/datasets/HuggingFaceM4/the_cauldron) and FineVision: parquet rows of `images`
[{bytes, path}] and `texts` [{user, assistant, source}], all of them turns about the same images.

FineVision's `source` of the row is read like that of the texts. Its ratings (1 to 5 by a model, for each turn) are not
read: they rank turns and say nothing about what a row holds.
"""

from __future__ import annotations

from pathlib import Path

from vistune.sources.rows import Listing, Malformed, need
from vistune.sources.spec import AnnotationFile
from vistune.sources.turns import Turn, arrange, dialogues, keep, listed

COLUMNS = ("id", "images", "texts", "source")


def read_cauldron(root: Path, file: AnnotationFile, listing: Listing) -> None:
    for row in dialogues(root, file, listing, columns=COLUMNS):
        with row:
            turns: list[Turn] = []
            sources = [row.need("source", str, "")]
            for n, text in enumerate(row.need("texts", list)):
                try:
                    turns += [("user", need(text, "user", str)), ("assistant", need(text, "assistant", str))]
                    sources.append(need(text, "source", str, ""))
                except Malformed as problem:
                    raise Malformed(f"texts {n}: {problem}") from None
            images = listed(row.value.get("images"))
            task = ", ".join(dict.fromkeys(source for source in sources if source))
            keep(row, arrange(turns, len(images), unmarked_first=True), images, task)
