"""What the annotation files of one data set say, joined over the image id, before any image is opened.

Every row of every file ends in one of two places: in a `Listing`, or in its rejects with a reason. `Tally` counts
both sides, so that a caller can assert in = out + rejected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vistune.errors import VistuneError
from vistune.records import Category, Dialogue, Reject
from vistune.sources.boxes import Frame
from vistune.sources.spec import AnnotationFile

KINDS = {
    "object": "objects",
    "caption": "captions",
    "question": "questions",
    "label": "labels",
    "relation": "relations",
    "phrase": "phrases",
    "line": "lines",
    "table": "tables",
}
"""Kinds of annotations, and the field of `AnnotatedImage` that holds them."""


@dataclass
class Tally:
    """Rows met and rows kept, by kind: image, dialogue, and those of `KINDS`.

    After `read` is exhausted, `sum(entered) = sum(kept) + number of rejects it appended`. An image listed by
    several files is one row; annotations of a rejected image are rejected each, with the image's reason.
    """

    entered: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)  # rows of other splits: neither met nor kept
    mended: Counter[str] = field(default_factory=Counter)  # repairs of kept rows, by reason: "box_clipped"


class Pending(Struct):
    """An annotation whose boxes wait for the true size of its image. A `Struct`, as what follows: they are made by the
    million, and this makes them in a quarter of the time of a dataclass."""

    record: Any  # a record of the kind's type, boxes still empty
    boxes: tuple[Sequence[Any], ...] = ()  # four numbers each, as the file has them
    frame: Frame = "xywh"
    clip: bool = False  # boxes of this data set are known to leave the image: cut them off instead of refusing
    polygons: tuple[Sequence[float] | bytes, ...] = ()  # x, y, x, y, ... each; as bytes: packed doubles


class Rows(Struct):
    """The annotations of one image by kind, none of a kind that nothing was said of."""

    _read: dict[str, list[Pending]] = {}  # of its own, as a Struct makes it
    _unread: tuple[tuple[str, Callable[[Any], Pending], Sequence[Any]], ...] = ()

    def __getitem__(self, kind: str) -> list[Pending]:
        found = self._read.get(kind)
        if found is None:
            found = self._read[kind] = [make(v) for own, make, values in self._unread if own == kind for v in values]
            self._unread = tuple(later for later in self._unread if later[0] != kind)
        return found

    def put_off(self, kind: str, make: Callable[[Any], Pending], values: Sequence[Any]) -> None:
        """Adds what `make`, a function of a module, makes of each value, once it is asked for: then it costs nothing
        here, and little to send to the process that opens the image. The values must be good; they are not counted."""
        if kind in self._read:
            self._read[kind] += map(make, values)
        else:
            self._unread += ((kind, make, values),)

    def items(self) -> Iterator[tuple[str, list[Pending]]]:
        """All kinds, in the order of `KINDS`."""
        return ((kind, self[kind]) for kind in KINDS)

    def values(self) -> Iterator[list[Pending]]:
        return (self[kind] for kind in KINDS)


class Entry(Struct):
    """One image as the files list it."""

    id: str
    file: str  # relative to the data set's image folder
    width: int | None  # as declared, pixels
    height: int | None
    licence: str
    attribution: str
    rows: Rows = msgspec.field(default_factory=Rows)
    complete: bool = False  # the labels of its objects are annotated completely, but for those of `partial`
    partial: set[str] = set()  # of these an object here may have no annotation


@dataclass(frozen=True)
class DialogueRow:
    """A dialogue whose image files are not opened yet."""

    record: Dialogue  # without images
    files: tuple[str, ...]  # relative to the data set's image folder


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
    split: str = "train"
    images: dict[str, Entry] = field(default_factory=dict)
    dialogues: list[DialogueRow] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)  # ids of images that were listed but cannot be used
    vocabulary: dict[str, Category] = field(default_factory=dict)  # things by label, in the order of the files
    embed: Callable[[str, bytes], None] | None = None  # called with (file, bytes) of images held by annotation files

    def refuse(self, kind: str, id: Any, reason: str, detail: str) -> None:
        key = f"{self.dataset}/{kind}/{id}"
        self.rejects.append(Reject(self.stage, _printable(key), reason, _printable(detail)))

    def each(self, kind: str, values: Iterable[Any], file: AnnotationFile, id: str) -> Iterator[Row]:
        """The rows of one kind in a file, each counted as met; use each `with row:`. `id`: the key that names a row
        (rows without it are named by their position, rows with the id of an earlier one are refused)."""
        seen: set[str] = set()
        for position, value in enumerate(values):
            self.tally.entered[kind] += 1
            yield Row(self, kind, value, file, label(value, id, position), seen)

    def image(self, key: str, file: str, width: int | None = None, height: int | None = None) -> Entry | None:
        """The image `key`, listed here for the first time or again; None when it was refused before. For formats
        that mention images rather than list them."""
        if key in self.refused:
            return None
        if key not in self.images:
            self.tally.entered["image"] += 1
            self.images[key] = Entry(key, file, width, height, self.licence, self.attribution)
        return self.images[key]

    def keep(self, kind: str, image: str, pending: Pending) -> None:
        self.images[image].rows[kind].append(pending)


class Malformed(Exception):
    """A row lacks a key or holds a value of the wrong type; the text says which."""


class Refused(Exception):
    """A row is well formed but cannot be used."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Row:
    """One row of a file. As a context manager it ends a bad row, raised as Malformed or Refused, as a reject."""

    __slots__ = ("_seen", "file", "kind", "listing", "name", "value")

    def __init__(
        self, listing: Listing, kind: str, value: Any, file: AnnotationFile, name: str, seen: set[str]
    ) -> None:
        self.listing, self.kind, self.value, self.file, self.name, self._seen = listing, kind, value, file, name, seen

    def __enter__(self) -> Row:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, Malformed):
            self.listing.refuse(self.kind, self.name, "row_malformed", f"{self.file.path}: {error}.")
        elif isinstance(error, Refused):
            self.listing.refuse(self.kind, self.name, error.reason, f"{self.file.path}: {error}")
        return isinstance(error, Malformed | Refused)

    def need(self, key: str, kinds: type | tuple[type, ...], default: Any = ...) -> Any:
        return need(self.value, key, kinds, default)

    def identifier(self, key: str) -> str:
        return identifier(self.value, key)

    def text(self, key: str, default: Any = ...) -> str:
        """Text on one line. Raises Malformed when it is absent or no text, unless there is a default; it may be
        empty."""
        return " ".join(need(self.value, key, str, default).split())

    def keep(
        self,
        image: str,
        record: Any,
        *boxes: Sequence[Any],
        frame: Frame = "xywh",
        clip: bool = False,
        polygons: tuple[Sequence[float] | bytes, ...] = (),
    ) -> None:
        """Keeps what the row says about an image that is listed. Raises Refused: `duplicate_id`, `image_unknown`."""
        if self.name in self._seen:
            raise Refused("duplicate_id", "the id occurs before.")
        if image not in self.listing.images:
            raise Refused("image_unknown", f"image {image} is not listed.")
        self._seen.add(self.name)
        self.listing.keep(self.kind, image, Pending(record, boxes, frame, clip, polygons))

    def pass_over(self) -> None:
        """The row belongs to another split: it counts as not met."""
        self.listing.tally.entered[self.kind] -= 1
        self.listing.tally.passed_over[self.kind] += 1


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
    if isinstance(value, str) and not value.isascii() and _printable(value) != value:
        raise Malformed(f"{key} holds half a character (a lone surrogate): {value!r:.80}")
    return value


def _printable(text: str) -> str:
    """The text, with what cannot be written as UTF-8 escaped: JSON can spell half a character, e.g. an emoji cut in
    two, and a file's name can be any bytes.

    >>> _printable("käse"), _printable("\\ud83d")
    ('käse', '\\\\ud83d')
    """
    return text.encode(errors="backslashreplace").decode()


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
