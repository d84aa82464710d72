"""WebDataset shards: KEY.json and KEY.png (of further images KEY.1.png, ...) one after another in tar files.

A tar file's bytes depend on its members alone: no time, owner or permission of the machine is in it.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from vistune.export.release import Release
from vistune.export.talk import blocks, shown, turns
from vistune.records import Sample

SHARD_BYTES = 1_000_000_000


def write(release: Release, samples: Iterable[Sample], folder: Path) -> None:
    with ExitStack() as stack:
        shards: dict[str, _Shards] = {}
        for sample in samples:
            if sample.split not in shards:
                shards[sample.split] = stack.enter_context(_Shards(folder, sample.split))
            shards[sample.split].add(_members(release, sample))


def key(id: str) -> str:
    """An id as a file name without dots, since WebDataset cuts names at the first; one name for each id.

    >>> key("vt1:ab.c")
    'vt1%3aab%2ec'
    """
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: "".join(f"%{byte:02x}" for byte in found[0].encode()), id)


def _members(release: Release, sample: Sample) -> list[tuple[str, bytes]]:
    turns(sample)  # refuses what no chat template takes
    row = {
        "id": sample.id,
        "messages": [{"role": m.role, "content": blocks(m)} for m in sample.messages],
        "vistune": release.about(sample),
    }
    stem = key(sample.id)
    members = [(f"{stem}.json", json.dumps(row, ensure_ascii=False).encode())]
    for number, image in enumerate(shown(sample)):
        name, content = release.image(sample, image)
        suffix = name.partition(".")[2]
        members.append((f"{stem}.{number}.{suffix}" if number else f"{stem}.{suffix}", content))
    return members


class _Shards:
    """Tar files of one split, each begun when the one before it is full."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.shards = 0
        self._path = folder
        self._tar: tarfile.TarFile | None = None

    def add(self, members: list[tuple[str, bytes]]) -> None:
        """The members of one sample, which stay in one file."""
        size = sum(1024 + len(content) for _, content in members)
        if self._tar is not None and self._tar.offset + size > SHARD_BYTES:
            self._close()
        if self._tar is None:
            self._path = self.folder / f"{self.split}-{self.shards:06d}.tar"
            self._tar = tarfile.open(self._path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self.shards += 1
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            self._tar.addfile(entry, io.BytesIO(content))

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            with open(self._path, "rb") as file:
                os.fsync(file.fileno())
            self._tar = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
