"""The write-ahead log of a model's answers: after a crash only what is missing is computed again.

One file per model, to which any number of processes may append. A line holds the answers of one batch by their keys;
a key is a digest of everything that an answer depends on: the model and the code that runs it, the images, the
conversation, what was wanted, and the task's version. A line is written at once and is on disk before its answers are
used; one that a crash cut short counts for nothing. So after a crash a batch is known as a whole or not at all, what
is computed again is computed in the same batches, and the answers equal those of an uninterrupted run bit for bit.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vistune.hashing import canonical


class ResponseLog:
    """`with ResponseLog(path) as log: log.get(key)`. An answer is any JSON value but null. Safe to use from threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Any] = {}
        self._end = 0  # bytes of the file that were read
        self._mutex = threading.Lock()

    def __enter__(self) -> ResponseLog:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)  # a new file is on disk only when its name is
        os.close(folder)
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def __len__(self) -> int:
        return len(self.answers)

    def get(self, key: str) -> Any:
        """The answer, or None."""
        return self.answers.get(key)

    def refresh(self) -> None:
        """Reads what was appended since, by this process or others."""
        with self._mutex, self._locked():
            self._read()

    def add(self, answers: Mapping[str, Any]) -> None:
        """On disk when this returns, all of them or, after a crash, none."""
        with self._mutex, self._locked():
            self._read()  # cuts off what a killed process left half-written
            line = canonical({"answers": dict(answers)}) + b"\n"
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
            self._end += len(line)
            self.answers |= answers

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else is writing, so an incomplete line was left by a process that is gone."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _read(self) -> None:
        """Reads whole lines up to the first damaged one, and cuts the file there."""
        size = os.fstat(self._file).st_size
        if size < self._end:  # another process found damage in what was read before
            self._end = 0
        if size == self._end:
            return
        with open(self.path, "rb") as file:
            file.seek(self._end)
            for line in file:
                found = _parse(line)
                if found is None:
                    os.ftruncate(self._file, self._end)
                    return
                self.answers |= found
                self._end += len(line)


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    found = entry.get("answers") if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else None
