"""The digest of a model's files, found by their sizes and times once they were read, as git's index does it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from vistune.files import decode, files_under, tree_digest, write_json
from vistune.hashing import digest

GRAIN = 2_000_000_000
"""Nanoseconds in which a second change of a file may leave the times of the first."""


def model_digest(folder: Path, home: Path) -> str:
    """`tree_digest(folder)`: 14 GB of weights take a quarter of a minute to read. Kept under `home` with what the file
    system says of each file (size, time of the last change, number); any other word of it, and all are read again."""
    kept = home / "digests" / f"{digest(str(folder.resolve()))[:32]}.json"
    begun, stats = time.time_ns(), _stats(folder)
    known = decode(kept, dict[str, Any]) or {}
    if known.get("files") == stats:
        return str(known["digest"])
    found = tree_digest(folder)
    if stats == _stats(folder) and all(changed < begun - GRAIN for _, changed, _ in stats.values()):
        write_json(kept, {"files": stats, "digest": found})
    return found


def _stats(folder: Path) -> dict[str, list[int]]:
    stats = ((p.relative_to(folder).as_posix(), p.stat()) for p in files_under(folder))
    return {name: [s.st_size, s.st_mtime_ns, s.st_ino] for name, s in stats}
