"""What the annotation files of one data set say, joined over the image id, before any image is opened.

Every row of every file ends in one of two places: in a `Listing`, or in its rejects with a reason. `Tally` counts
both sides, so that a caller can assert in = out + rejected.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.records import Annotation, Caption, Category, Question, Reject


@dataclass
class Tally:
    """Rows met and rows kept, by kind: image, object, caption, question.

    After `read` is exhausted, `sum(entered) = sum(kept) + number of rejects it appended`. An image listed by
    several files is one row; annotations of a rejected image are rejected each, with the image's reason.
    """

    entered: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)


@dataclass
class Entry:
    """One image as the files list it."""

    id: str
    file: str  # relative to the data set's image folder
    width: int | None  # as declared, pixels
    height: int | None
    licence: str
    attribution: str
    objects: list[tuple[Annotation, tuple[float, ...]]] = field(default_factory=list)  # with pixel x, y, width, height
    captions: list[Caption] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


@dataclass
class Listing:
    """The joined files of one data set. Readers add to it; `refuse` is the only way out for a bad row."""

    dataset: str
    stage: str  # of the rejects
    rejects: list[Reject]
    tally: Tally
    licence: str = ""  # defaults of the data set
    attribution: str = ""
    image_pattern: str = ""
    images: dict[str, Entry] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)  # ids of images that were listed but cannot be used
    vocabulary: dict[str, Category] = field(default_factory=dict)  # things by label, in the order of the files

    def refuse(self, kind: str, id: Any, reason: str, detail: str) -> None:
        self.rejects.append(Reject(self.stage, f"{self.dataset}/{kind}/{id}", reason, detail))


class Malformed(Exception):
    """A row lacks a key or holds a value of the wrong type; the text says which."""


def identifier(row: dict[str, Any], key: str) -> str:
    """An id as text; files use integers and strings.

    >>> identifier({"id": 7}, "id")
    '7'
    """
    value = need(row, key, (int, str))
    if value == "":
        raise Malformed(f"{key} is empty")
    return str(value)


def need(row: Any, key: str, kinds: type | tuple[type, ...], default: Any = ...) -> Any:
    """`row[key]` if it is one of `kinds` (a bool is an int only where bool is named too), `default` if it is absent
    or null. Raises Malformed otherwise."""
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(row, dict):
        raise Malformed(f"expected an object with keys, got {type(row).__name__}")
    if key not in row or (row[key] is None and default is not ...):
        if default is ...:
            raise Malformed(f"{key} is missing")
        return default
    value = row[key]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise Malformed(f"{key} is {value!r:.80}, expected {' or '.join(k.__name__ for k in allowed)}")
    return value


def label(row: Any, key: str, position: int) -> str:
    """What to call a row in a reject: its id, or its place in the list when it has none."""
    value = row.get(key) if isinstance(row, dict) else None
    return str(value) if isinstance(value, int | str) and value != "" else f"#{position}"


def section(tree: Any, key: str, path: Path, optional: bool = False) -> list[Any]:
    """The list under `key` of a parsed file. Raises VistuneError when the file has another shape."""
    if not isinstance(tree, dict):
        raise VistuneError(
            f"{path}: expected an object with the key {key!r} at the top, got a {type(tree).__name__}. "
            "Check that the file is in the format named for it."
        )
    if key not in tree and optional:
        return []
    if not isinstance(tree.get(key), list):
        found = ", ".join(sorted(tree)) or "nothing"
        raise VistuneError(
            f"{path}: expected a list under {key!r}; the file has {found}. Check the format named for it."
        )
    return list(tree[key])
