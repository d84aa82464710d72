"""ImageNet folders (https://image-net.org): one folder per synset, named by its WordNet id, and a file of names.

The names are lines such as `n01440764 tench, Tinca tinca` (LOC_synset_mapping.txt, words.txt) or `n01440764 1 tench`
(map_clsloc.txt); the first synonym is the label. Several synsets may share it ("crane" is a bird and a machine), and
what else an image shows is not annotated, so a label proves only that the thing is there. The folder is also the data
set's `images`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import inside
from vistune.records import Category, Label
from vistune.sources.rows import Listing, Refused
from vistune.sources.spec import AnnotationFile

_LINE = re.compile(r"(n\d{8})[\s,]+(?:\d+\s+)?(\S.*)")


def read_folders(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds one image and its label per file."""
    names = _names(inside(root, file.annotations))
    for row in listing.each("label", _files(inside(root, file.path)), file, id="file"):
        with row:
            name, synset = row.identifier("file"), row.identifier("synset")
            if synset not in names:
                raise Refused("category_unknown", f"synset {synset} is not in {file.annotations}.")
            listing.image(name, name)
            row.keep(name, Label(name, names[synset]))


def _files(folder: Path) -> Iterator[Any]:
    """All files in the folders of a folder, in the order of their names. What is hidden (`.DS_Store`) is left out."""
    if not folder.is_dir():
        raise VistuneError(f"{folder} is no folder. Name the folder that holds one folder per synset.")
    for synset in _visible(folder):
        if synset.is_dir():
            for image in _visible(Path(synset.path)):
                yield {"file": f"{synset.name}/{image.name}", "synset": synset.name}


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _names(path: Path) -> dict[str, Category]:
    found: dict[str, Category] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise VistuneError(f"{path} cannot be read ({error.strerror}). Name the file of synset names.") from None
    except UnicodeDecodeError as error:
        raise VistuneError(f"{path} is not UTF-8 text ({error}). Restore it from its origin and run again.") from None
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line.strip())
        label = match[2].split(",")[0].replace("_", " ").strip() if match else ""
        if match and label:
            found[match[1]] = Category(label)
        elif line.strip():
            raise VistuneError(f"{path}, line {number}: expected 'n01440764 tench, Tinca tinca', got {line!r:.80}.")
    return found
