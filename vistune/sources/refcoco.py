"""RefCOCO, RefCOCO+ and RefCOCOg (https://github.com/lichengunc/refer): expressions that fit one object of an image.

`refs(unc).p` and its like are joined over `ann_id` with the instances file published beside them. A ref's `file_name`
is not that of an image. Of RefCOCOg take `refs(umd).p`: the Google split shares images between train and validation.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from vistune.errors import VistuneError
from vistune.files import inside
from vistune.records import Phrase
from vistune.sources.questions import elsewhere
from vistune.sources.rows import Listing, Pending, Refused
from vistune.sources.spec import AnnotationFile

SPLITS = {"train": "train", "val": "validation", "test": "test", "testA": "test", "testB": "test", "testC": "test"}

MAX_BYTES = 1 << 30
"""Refs files have up to 60 MB."""

DAMAGED: tuple[type[Exception], ...] = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What unpickling a damaged file may raise."""


PLAIN = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS "
    "GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL INST STACK_GLOBAL"
)
"""Pickle opcodes that make plain data; the last three end in `find_class`, and so in an error that says what for."""


class _Plain(pickle._Unpickler):
    """Makes lists, dicts, text and numbers, and calls nothing: a pickle may name any function to be run. It is the
    unpickler written in Python, at a third of the speed: in the other, five bytes can claim gigabytes for the memo."""

    dispatch: ClassVar[dict[int, Any]] = {
        code: pickle._Unpickler.dispatch[code] for code in (ord(getattr(pickle, name)) for name in PLAIN.split())
    }

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, but refs are plain lists, dicts, text and numbers")


def read_refs(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the expressions of this split; images whose refs all belong to other splits are passed over with all that
    is known of them, since the instances file lists those of every split."""
    path = inside(root, file.path)
    found: dict[str, tuple[str, Pending]] = {}
    for entry in listing.images.values():
        found |= {pending.record.id: (entry.id, pending) for pending in entry.rows["object"]}
    here, there = set(), set()
    for row in listing.each("phrase", _sentences(load(path), path), file, id="sent_id"):
        with row:
            image = row.identifier("image_id")
            if elsewhere(row, "split", SPLITS):
                there.add(image)
                continue
            here.add(image)
            key, annotation = row.identifier("sent_id"), row.identifier("ann_id")
            text = row.text("sent", "") or row.text("raw")
            if not text:
                raise Refused("phrase_empty", "the expression has no text.")
            if "\ufffd" in text:
                raise Refused("text_undecodable", f"{text!r:.80} is not UTF-8.")
            if annotation not in found:
                raise Refused("object_unknown", f"annotation {annotation} is not in the instances file.")
            owner, pending = found[annotation]
            if owner != image:
                raise Refused("image_mismatch", f"it is about image {image}, but its annotation is of image {owner}.")
            phrase = Phrase(key, text, (), "referring", (annotation,), unique=True)
            row.keep(image, phrase, *pending.boxes, frame=pending.frame, clip=pending.clip)
    for image in sorted(there - here):
        _pass_over(image, listing)


def load(path: Path) -> Any:
    """What a pickle of plain data holds; text of Python 2 is read as UTF-8, U+FFFD where it is not. Raises
    VistuneError for anything that would import or run code."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise VistuneError(f"{path} has more than {MAX_BYTES:,} bytes, too many for a refs file.")
        return _Plain(io.BytesIO(path.read_bytes()), encoding="utf-8", errors="replace").load()
    except OSError as error:
        raise VistuneError(f"{path} cannot be read ({error.strerror}). Name a refs pickle.") from None
    except DAMAGED as error:
        raise VistuneError(
            f"{path} is not a usable refs pickle ({error or type(error).__name__}). Take refs(unc).p, refs(google).p "
            "or refs(umd).p as it was published."
        ) from None


def _sentences(refs: Any, path: Path) -> Iterator[Any]:
    """One row per expression, with the keys of its ref. A ref whose expressions cannot be told apart stays one row, to
    be rejected."""
    if not isinstance(refs, list):
        raise VistuneError(f"{path}: expected a list of refs, got a {type(refs).__name__}. Check the format.")
    for ref in refs:
        if not isinstance(ref, dict) or not isinstance(ref.get("sentences"), list):
            yield {"ref_id": ref.get("ref_id")} if isinstance(ref, dict) else ref
            continue
        for sentence in ref["sentences"]:
            yield {**ref, **sentence} if isinstance(sentence, dict) else sentence


def _pass_over(image: str, listing: Listing) -> None:
    entry = listing.images.pop(image, None)
    if entry is None:
        return
    rows = {"image": 1} | {kind: len(pending) for kind, pending in entry.rows.items()}
    listing.tally.entered.subtract(rows)
    listing.tally.passed_over.update(rows)
