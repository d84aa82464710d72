"""What the readers share: an item becomes a document, its pictures become references under the data folder."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from vistune.errors import VistuneError
from vistune.evaluate.tasks import Docs
from vistune.files import atomic, files_under, inside, is_picture
from vistune.hashing import file_digest, keyed, merkle_root
from vistune.imagefile import describe_image, read_header
from vistune.records import ImageRef
from vistune.sources.rows import Malformed, Refused

EXTRACTED = "extracted"
"""Where pictures that a file holds inside itself are laid, beside that file."""

KNOWN = 200_000  # references kept, so that the tasks over one folder read each picture once


@dataclass(frozen=True)
class Item:
    """One question."""

    id: str
    images: tuple[str, ...]  # paths in the benchmark's folder, in the order they are shown
    question: str
    answer: str  # the gold one, as text
    task: str = ""  # subtask or category
    choices: tuple[str, ...] = ()
    gold: int = -1  # number of the right choice
    more: Mapping[str, Any] = field(default_factory=dict)  # what the scorer or the prompt needs besides


class Home:
    """Where the run's benchmark files lie, and which of the questions are asked. `data` is the folder of all
    benchmarks (`evaluate.data`); each has its own folder in it."""

    def __init__(
        self,
        benchmark: str,
        data: str | None = None,
        seed: int = 0,
        limit: int | None = None,
        folder: str = "",
        **_: Any,
    ) -> None:
        if not data:
            raise VistuneError(
                f"the benchmark {benchmark} is read from local files: set evaluate.data to the folder that holds "
                f"{folder or benchmark}/. `vistune evaluate --list` says where its files come from."
            )
        self.benchmark, self.seed, self.limit = benchmark, seed, limit
        self.root, self.name = Path(data), folder or benchmark
        self.folder = inside(self.root, self.name)
        if not self.folder.is_dir():
            raise VistuneError(
                f"{self.folder} does not exist. Lay the files of {benchmark} there as published; "
                "`vistune evaluate --list` says where they come from."
            )

    def path(self, relative: str) -> Path:
        """A file of the benchmark. Raises VistuneError when it is missing."""
        path = inside(self.folder, relative)
        if not path.exists():
            raise VistuneError(f"benchmark {self.benchmark}: {path} is missing. Lay the published files there.")
        return path

    def documents(self, items: Sequence[Item]) -> dict[str, Docs]:
        """The items about at most `limit` pictures (items without one count as one picture each), in their order. Which
        pictures is a keyed choice of their names, so that tasks over one folder keep the same ones."""
        if not items:
            raise VistuneError(f"benchmark {self.benchmark}: its files in {self.folder} hold no questions.")
        groups = [self._group(item) for item in items]
        kept = set(sorted(set(groups), key=lambda g: (keyed(self.seed, "limit", g), g))[: self.limit])
        rows = [self._document(item) for item, group in zip(items, groups, strict=True) if group in kept]
        seen: set[str] = set()
        for row in rows:
            if row["id"] in seen:
                raise VistuneError(f"benchmark {self.benchmark}: two questions have the id {row['id']}.")
            seen.add(row["id"])
        return {"test": Docs(rows, len(items))}

    def _group(self, item: Item) -> str:
        return str(item.more.get("group") or (item.images[0] if item.images else item.id))

    def _document(self, item: Item) -> dict[str, Any]:
        where = PurePosixPath(self.name)  # takes "./" out of what follows it
        lettered = "\n".join(f"{chr(ord('A') + n)}. {text}" for n, text in enumerate(item.choices))
        return {
            "id": f"{self.benchmark}/{item.id}",
            "benchmark": self.benchmark,
            "task": item.task or self.benchmark,
            "concepts": "external",
            "images": [asdict(_describe(self.root, (where / path).as_posix())) for path in item.images],
            "question": item.question,
            "answer": item.answer,
            "choices": list(item.choices),
            "options": lettered,
            "gold": item.gold,
            "pool": self.benchmark,
            **item.more,
        }

    def extract(self, beside: str, picture: bytes | str) -> str:
        """Lays a picture that a file holds (bytes, or base64 text) under its digest in the benchmark's folder and
        returns its path there. Raises VistuneError when it is none, or the folder cannot be written."""
        try:
            content = base64.b64decode(picture, validate=True) if isinstance(picture, str) else picture
        except (binascii.Error, ValueError):
            raise VistuneError(f"benchmark {self.benchmark}: a picture in {beside} is not base64 text.") from None
        name = f"{EXTRACTED}/{hashlib.sha256(content).hexdigest()}"
        path = self.folder / name
        if not path.is_file():
            try:
                with atomic(path) as temporary:
                    temporary.write_bytes(content)
                    read_header(temporary, f"in {beside}")
            except OSError as error:
                raise VistuneError(
                    f"the pictures in {beside} are laid in {path.parent}, which cannot be written ({error.strerror}). "
                    "Make it writable."
                ) from None
        return name


def fingerprint(root: Path) -> str:
    """Digest of the files of all benchmarks; of pictures, which may be 40,000, their names and sizes. What is taken out
    of the files follows from them."""
    found = [path for path in files_under(root) if EXTRACTED not in path.relative_to(root).parts]
    return merkle_root(
        (path.relative_to(root).as_posix(), str(path.stat().st_size) if is_picture(path) else file_digest(path))
        for path in found
    )


@lru_cache(maxsize=KNOWN)
def _describe(root: Path, relative: str) -> ImageRef:
    return describe_image(root, relative)


@contextlib.contextmanager
def row(path: Path, number: int) -> Iterator[None]:
    """Turns what is wrong with a row of a file into an error that names the row."""
    try:
        yield
    except (Malformed, Refused) as problem:
        raise VistuneError(
            f"{path}, row {number}: {str(problem).rstrip('.')}. A benchmark is read whole or not at all; take the file "
            "as it was published."
        ) from None


def chosen(choices: Sequence[str], gold: Any) -> tuple[tuple[str, ...], int]:
    """Choices and the number of the right one from its letter or number. Raises Malformed."""
    number = ord(gold) - ord("A") if isinstance(gold, str) and len(gold) == 1 else gold
    if not isinstance(number, int) or not 0 <= number < len(choices):
        raise Malformed(f"the answer {gold!r:.40} is none of the {len(choices)} choices")
    return tuple(choices), number
