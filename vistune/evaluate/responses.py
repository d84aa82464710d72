"""The write-ahead log of a model's answers: after a crash only what is missing is computed again.

One file per model. One line is one batch: a digest of exactly what the batch fed to the model (token ids, image
digests, layout) and of the code that computed it, and the answers. Because whole batches are remembered, a resumed
run computes the same batches as an uninterrupted one, and its answers are equal bit for bit.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from vistune.hashing import canonical


class ResponseLog:
    """`with ResponseLog(path) as log:`; a second process that opens the same file waits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.batches: dict[str, list[Any]] = {}

    def __enter__(self) -> ResponseLog:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "a+b")
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self._recover()
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _recover(self) -> None:
        """Reads whole lines up to the first damaged one (a write cut short), and cuts the file there."""
        self.file.seek(0)
        good = 0
        for line in self.file:
            entry = _parse(line)
            if entry is None:
                break
            self.batches[entry["batch"]] = entry["answers"]
            good += len(line)
        self.file.truncate(good)
        self.file.seek(0, os.SEEK_END)

    def get(self, key: str, count: int) -> list[Any] | None:
        """The answers of a batch, or None unless all `count` of them are there."""
        found = self.batches.get(key)
        return found if found is not None and len(found) == count else None

    def add(self, key: str, answers: list[Any]) -> None:
        """On disk when this returns."""
        self.file.write(canonical({"batch": key, "answers": answers}) + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.batches[key] = answers


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and isinstance(entry.get("batch"), str) and isinstance(entry.get("answers"), list)
    return entry if whole else None
