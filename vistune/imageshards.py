"""Images in tar shards of about 1 GB, found by an index (see `imagestore`).

The index says for each image where its bytes lie: digest, width, height, format, shard, offset, size. It is sorted by
digest, memory-mapped, and written last: what it does not list is not in the store, so a process may be killed at any
moment. A shard is named by what it holds and never changed, only replaced.

Images that came with names of their own have a second index, from name to digest, sorted by name.
"""

from __future__ import annotations

import tarfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from vistune.errors import VistuneError
from vistune.files import atomic
from vistune.hashing import digest
from vistune.imagestore import INDEX, Slice, absent, image_path, refuse
from vistune.records import ImageRef

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 1 << 30
"""A shard is closed before it grows beyond this; a larger image has a shard of its own."""

BLOCK = 512
"""A tar member is a header of one block and its bytes, filled up to whole blocks (POSIX.1-1988, ustar)."""

NAMES = "images/names.arrow"
"""The second index, where the images have names."""

WRITERS = 4
"""Shards written at a time: hashing and copying need no Python lock."""


class ShardedImages:
    """The images added in one call give the same shards in whatever order they come; memory is about 1 kB for each of
    them. See `imagestore.ImageStore` for the methods."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self._load()

    def __len__(self) -> int:
        return self._index.num_rows

    def __contains__(self, sha256: object) -> bool:
        return self._row(str(sha256)) is not None

    def __iter__(self) -> Iterator[ImageRef]:
        return (self._entry(row).image for row in range(len(self)))

    def find(self, sha256: str) -> Slice:
        """Where the bytes of one image are. Raises VistuneError when the store does not have it."""
        row = self._row(sha256)
        if row is None:
            raise absent(sha256, self.folder)
        return self._entry(row)

    def read(self, sha256: str) -> bytes:
        return self.find(sha256).read()

    def name(self, digests: Mapping[str, str]) -> None:
        """Gives images names: name -> digest, in place of all names that there were."""
        import pyarrow as pa

        names = sorted(digests)
        columns = [pa.array(names, pa.string()), pa.array([bytes.fromhex(digests[n]) for n in names], pa.binary(32))]
        table = pa.record_batch(columns, names=["name", "sha256"])
        with atomic(self.folder / NAMES) as path, pa.ipc.new_file(str(path), table.schema) as file:
            file.write_batch(table)
        self.__dict__.pop("_names", None)

    def named(self, name: str) -> ImageRef | None:
        """The image of this name, which is then its path; None where there is none."""
        if self._names is None:
            return None
        names, digests = self._names["name"], self._names["sha256"]
        row = bisect_left(range(len(names)), name, key=lambda n: names[n].as_py())
        if row == len(names) or names[row].as_py() != name:
            return None
        return replace(self.find(digests[row].as_py().hex()).image, path=name)

    def stream(self) -> Iterator[tuple[ImageRef, bytes]]:
        return ((entry.image, entry.read()) for entry in self._on_disk())

    def add(self, images: Iterable[tuple[ImageRef, Path | Slice]]) -> int:
        new = {
            i.sha256: source if isinstance(source, Slice) else Slice(i, source, 0, source.stat().st_size)
            for i, source in images
            if i.sha256 not in self
        }
        self._commit(self._index, list(new.values()))
        return len(new)

    def verify(self) -> None:
        bad = []
        for entry in self._on_disk():
            try:
                entry.read()
            except VistuneError:
                bad.append(entry.image.sha256)
        refuse(self.folder, bad)

    def collect_garbage(self, used: Iterable[str]) -> int:
        """Shards without a dropped image stay as they are; what is left of the others is packed anew."""
        import pyarrow as pa
        import pyarrow.compute as pc

        before, index = len(self), self._index
        live = pc.is_in(index["sha256"], pa.array([bytes.fromhex(s) for s in used], pa.binary(32)))
        touched = index.filter(pc.invert(live))["shard"].unique()
        moves = pc.is_in(index["shard"], touched)
        moved = [self._entry(row) for row in pc.indices_nonzero(pc.and_(live, moves)).to_pylist()]
        self._commit(index.filter(pc.invert(moves)), moved)
        return before - len(self)

    def _load(self) -> None:
        import pyarrow as pa

        path = self.folder / INDEX
        if path.is_file():
            self._index = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        else:
            self._index = _batch([])
        self._digests = memoryview(self._index["sha256"].buffers()[1] or b"")

    @cached_property
    def _names(self) -> pa.RecordBatch | None:
        import pyarrow as pa

        path = self.folder / NAMES
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0) if path.is_file() else None

    def _row(self, sha256: str) -> int | None:
        try:
            wanted = bytes.fromhex(sha256)
        except ValueError:
            return None
        row = bisect_left(range(len(self)), wanted, key=self._digest)
        return row if row < len(self) and self._digest(row) == wanted else None

    def _digest(self, row: int) -> bytes:
        return bytes(self._digests[32 * row : 32 * row + 32])

    def _entry(self, row: int) -> Slice:
        sha256, width, height, kind, shard, offset, size = (column[row].as_py() for column in self._index.columns)
        image = ImageRef(sha256.hex(), width, height, kind, image_path(sha256.hex(), kind))
        return Slice(image, self.folder / "images" / shard, offset, size)

    def _on_disk(self) -> Iterator[Slice]:
        import pyarrow.compute as pc

        order = pc.sort_indices(self._index, sort_keys=[("shard", "ascending"), ("offset", "ascending")])
        return map(self._entry, order.to_pylist())

    def _commit(self, kept: pa.RecordBatch, new: list[Slice]) -> None:
        """Packs `new` into shards, writes the index of these and `kept`, then deletes what it no longer lists."""
        import pyarrow as pa

        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(WRITERS) as pool:
            packed = [e for shard in pool.map(self._pack, self._plan(new)) for e in shard]
        index = pa.concat_batches([kept, _batch(packed)]).sort_by("sha256")
        with atomic(self.folder / INDEX) as path, pa.ipc.new_file(str(path), index.schema) as file:
            file.write_batch(index)
        self._load()
        listed = set(self._index["shard"].unique().to_pylist())
        for shard in self.folder.glob("images/shard-*.tar"):
            if shard.name not in listed:
                shard.unlink()

    def _plan(self, new: list[Slice]) -> list[list[Slice]]:
        """Shards of up to `shard_bytes`, cut along the order of the digests."""
        plan: list[list[Slice]] = []
        filled = 0
        for entry in sorted(new, key=lambda e: e.image.sha256):
            size = BLOCK + _padded(entry.size)
            if not plan or filled + size > self.shard_bytes:
                plan.append([])
                filled = 0
            filled += size
            plan[-1].append(entry)
        return plan

    def _pack(self, members: list[Slice]) -> list[Slice]:
        """Writes one shard, unless an attempt that was killed later has written it."""
        name = digest([[m.image.sha256, m.image.format, m.size] for m in members])[:16]
        path = self.folder / "images" / f"shard-{name}.tar"
        if not path.exists():
            with atomic(path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
                for member in members:
                    header = tarfile.TarInfo(f"{member.image.sha256}.{member.image.format}")
                    header.size = member.size
                    tar.addfile(header, BytesIO(member.read()))
        placed, offset = [], 0
        for member in members:
            placed.append(Slice(member.image, path, offset + BLOCK, member.size))
            offset += BLOCK + _padded(member.size)
        return placed


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _schema() -> pa.Schema:
    import pyarrow as pa

    columns = [("sha256", pa.binary(32)), ("width", pa.int32()), ("height", pa.int32()), ("format", pa.string())]
    return pa.schema([*columns, ("shard", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])


def _batch(entries: list[Slice]) -> pa.RecordBatch:
    import pyarrow as pa

    rows = [
        (bytes.fromhex(e.image.sha256), e.image.width, e.image.height, e.image.format, e.file.name, e.offset, e.size)
        for e in entries
    ]
    columns = zip(*rows, strict=True) if rows else [()] * len(_schema())
    return pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, _schema(), strict=True)], schema=_schema())
