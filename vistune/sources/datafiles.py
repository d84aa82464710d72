"""Data files and folders of them, and their rows one after another: JSON lists, JSON lines and parquet.

A list of 665,298 dialogues takes 2.5 GB as one parsed tree; here one row is in memory, and some text around it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from vistune.errors import VistuneError
from vistune.files import inside
from vistune.sources.spec import AnnotationFile

SUFFIXES = (".json", ".jsonl", ".parquet")

READ_CHARACTERS = 1 << 20
READ_ROWS = 64  # of a parquet file at a time: its rows may hold images


def parts(root: Path, file: AnnotationFile) -> list[AnnotationFile]:
    """The file itself, or the data files of a folder in the order of their names."""
    path = inside(root, file.path)
    if not path.is_dir():
        return [file]
    found = [name for name in tree(path) if name.lower().endswith(SUFFIXES)]
    if not found:
        raise VistuneError(f"{path} holds no file that ends in {', '.join(SUFFIXES)}. Name the data file itself.")
    return [replace(file, path=f"{file.path}/{name}") for name in found]


def tree(folder: Path) -> list[str]:
    """The files of a folder by their path in it, sorted. Links are followed, each folder once; what is hidden
    (`.git`, `.DS_Store`) is left out."""
    found, seen = [], set()
    for at, folders, files in os.walk(folder, followlinks=True):
        here = Path(at)
        seen.add(here.resolve())
        folders[:] = sorted(d for d in folders if not d.startswith(".") and (here / d).resolve() not in seen)
        found += [(here / f).relative_to(folder).as_posix() for f in files if not f.startswith(".")]
    return sorted(name for name in found if (folder / name).is_file())


def rows(path: Path, columns: Sequence[str] = ()) -> Iterator[Any]:
    """The rows of a file, whose content says in which of the forms it is; of a parquet file only `columns`, if given.
    Raises VistuneError when it is damaged or something else."""
    if not path.is_file():
        raise VistuneError(f"{path} does not exist. Check the path, or run the stage that writes it.")
    with open(path, "rb") as f:
        is_parquet = f.read(4) == b"PAR1"
    return _parquet_rows(path, columns) if is_parquet else _json_rows(path)


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            wanted = [name for name in table.schema_arrow.names if name in columns] if columns else None
            for batch in table.iter_batches(READ_ROWS, columns=wanted):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise VistuneError(
            f"{path} cannot be read as a parquet file ({error}). Restore it from its origin and run again."
        ) from None


def _json_rows(path: Path) -> Iterator[Any]:
    count = 0
    try:
        with open(path, encoding="utf-8-sig") as f:
            for value in _values(_Text(f)):
                yield value
                count += 1
    except (ValueError, RecursionError) as error:  # ValueError: also text that is not UTF-8
        why = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise VistuneError(
            f"{path} is not valid JSON after row {count:,} ({why}). Expected a list of objects, or one object per "
            "line. The file may be cut short or in another format; restore it from its origin and run again."
        ) from None


@dataclass
class _Text:
    """The part of a file that is in memory, and how far it is used up."""

    file: IO[str]
    held: str = ""
    at: int = 0

    def next(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            while self.at < len(self.held):
                if not self.held[self.at].isspace():
                    return self.held[self.at]
                self.at += 1
            if not self.grow():
                return ""

    def grow(self) -> bool:
        """Reads on, as much again as is held, so that a long row is parsed from its start only a few times."""
        rest = self.held[self.at :]
        more = self.file.read(max(READ_CHARACTERS, len(rest)))
        self.held, self.at = rest + more, 0
        return bool(more)


def _values(text: _Text) -> Iterator[Any]:
    """The values of a list, or objects that follow one another. Raises ValueError."""
    decoder = json.JSONDecoder()
    if text.next() != "[":
        while first := text.next():
            if first != "{":
                raise ValueError(f"a row starts with {first!r}")
            yield _value(text, decoder)
        return
    text.at += 1
    more = text.next() != "]"
    while more:
        yield _value(text, decoder)
        after = text.next()
        if after not in (",", "]"):
            raise ValueError(f"expected ',' or ']', found {after or 'the end'!r}")
        more = after == ","
        text.at += more
    text.at += 1
    if text.next():
        raise ValueError(f"{text.next()!r} follows the end of the list")


def _value(text: _Text, decoder: json.JSONDecoder) -> Any:
    text.next()  # the decoder wants no white space in front
    while True:
        try:
            value, text.at = decoder.raw_decode(text.held, text.at)
            return value
        except json.JSONDecodeError as error:
            # Cut off where the text in memory ends, or wrong? A string is reported where it starts, the rest where it
            # breaks, up to one "\uXXXX" pair before the end.
            cut = error.msg.startswith("Unterminated string") or error.pos >= len(text.held) - 12
            if not cut or not text.grow():
                raise
