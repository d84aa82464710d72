"""Rows in any order and of any number -> sorted parquet shards, in memory of about one shard.

An external merge sort. Rows are held until they fill a run, which is sorted and spilled to an unnamed temporary file
(it vanishes with the process). The runs are then merged: a little of each is in memory, and what is not above the
last row read of any run is final. Shards are cut every `SHARD_ROWS` rows and written with pinned settings, so equal
rows give equal bytes whatever their order, their grouping, or the number of processes that made them.
"""

from __future__ import annotations

import heapq
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vistune.errors import VistuneError
from vistune.files import atomic
from vistune.hashing import file_digest
from vistune.progress import Progress
from vistune.schema import arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS = 50_000
GROUP_ROWS = 5_000  # of a parquet row group: what is decoded to read one row
RUN_BYTES = 64 << 20
"""Rows are sorted in memory and spilled when they take this much."""

PIECE_ROWS = 512
"""Rows of a run that the merge holds at a time."""

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Shard:
    """One parquet file; `first` and `last` are the first sort key of its first and last row."""

    name: str
    rows: int
    bytes: int
    sha256: str
    first: str
    last: str


@dataclass(frozen=True)
class _Piece:
    """Consecutive rows of a run in the spill file, compressed."""

    offset: int
    size: int
    raw_size: int
    last: Key


class SortedShards:
    """`with SortedShards(folder, "samples", Sample, ("id",), unique=True) as out: out.add(batch); out.finish()`.

    Nothing is read before `finish`, which returns the shards it wrote. Rows with equal keys are refused if `unique`.
    """

    def __init__(self, folder: Path, kind: str, record: type, order: tuple[str, ...], unique: bool = False) -> None:
        self.folder, self.kind, self.schema, self.order, self.unique = folder, kind, arrow_schema(record), order, unique
        self._held: list[pa.RecordBatch] = []
        self._bytes = self.rows = 0
        self._runs: list[list[_Piece]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes rows with the columns of the schema."""
        self._held.append(batch)
        self._bytes += batch.nbytes
        self.rows += batch.num_rows
        if self._bytes >= RUN_BYTES:
            self._spill()

    def finish(self) -> list[Shard]:
        """Writes all rows. Raises VistuneError when `unique` and two rows share a key."""
        shards: list[Shard] = []
        ahead: list[pa.Table] = []
        with Progress(f"write {self.kind}"[:14], self.rows, "rows") as progress:
            for table in self._checked(self._merged()):
                ahead.append(table)
                while sum(t.num_rows for t in ahead) >= SHARD_ROWS:
                    whole = _concat(ahead)
                    shards.append(self._write(whole.slice(0, SHARD_ROWS), len(shards)))
                    ahead = [whole.slice(SHARD_ROWS)]
                    progress.step(SHARD_ROWS)
            rest = _concat(ahead) if ahead else self.schema.empty_table()
            if rest.num_rows or not shards:
                shards.append(self._write(rest, len(shards)))
        return shards

    def _sorted(self, tables: list[pa.Table]) -> pa.Table:
        import pyarrow.compute as pc

        whole = _concat(tables)
        return whole.take(pc.sort_indices(whole, sort_keys=[(name, "ascending") for name in self.order]))

    def _key(self, table: pa.Table, row: int) -> Key:
        return tuple(table[name][row].as_py() for name in self.order)

    def _spill(self) -> None:
        import pyarrow as pa

        table = self._sorted([pa.Table.from_batches(self._held, self.schema)])
        self._held, self._bytes = [], 0
        pieces = []
        for batch in table.combine_chunks().to_batches(max_chunksize=PIECE_ROWS):
            raw = batch.serialize()
            packed = pa.compress(raw, codec="lz4_raw", asbytes=True)
            last = self._key(pa.Table.from_batches([batch]), batch.num_rows - 1)
            pieces.append(_Piece(self._file.tell(), len(packed), raw.size, last))
            self._file.write(packed)
        self._runs.append(pieces)

    def _read(self, piece: _Piece) -> pa.Table:
        import pyarrow as pa

        self._file.seek(piece.offset)
        raw = pa.decompress(self._file.read(piece.size), piece.raw_size, codec="lz4_raw")
        return pa.Table.from_batches([pa.ipc.read_record_batch(raw, self.schema)])

    def _merged(self) -> Iterator[pa.Table]:
        """All rows in order, a shard or more at a time."""
        import pyarrow as pa

        if not self._runs:
            if self._held:
                yield self._sorted([pa.Table.from_batches(self._held, self.schema)])
            return
        if self._held:
            self._spill()
        runs = [iter(pieces) for pieces in self._runs]
        pending, count = [], 0
        heads = [((), n) for n in range(len(runs))]  # type: list[tuple[Key, int]]
        enough = SHARD_ROWS + PIECE_ROWS * len(runs)  # all but a piece of each run is final then
        while heads:
            _, n = heads[0]  # the run whose rows read so far end lowest
            piece = next(runs[n], None)
            if piece is None:
                heapq.heappop(heads)
                continue
            heapq.heapreplace(heads, (piece.last, n))
            pending.append(self._read(piece))
            count += pending[-1].num_rows
            if count >= enough:
                table = self._sorted(pending)
                final = bisect_right(range(count), heads[0][0], key=lambda row: self._key(table, row))
                yield table.slice(0, final)
                pending, count = [table.slice(final)], count - final
        yield self._sorted(pending)

    def _checked(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """`tables` without the empty ones, after a look at each pair of neighbours."""
        import pyarrow as pa
        import pyarrow.compute as pc

        before: pa.Table | None = None
        for table in tables:
            if not table.num_rows:
                continue
            if self.unique:
                seen = table if before is None else pa.concat_tables([before, table])
                (name,) = self.order
                keys = seen[name].combine_chunks()
                at = pc.index(pc.equal(keys.slice(1), keys.slice(0, len(keys) - 1)), True).as_py()
                if at >= 0:
                    self._refuse(keys[at].as_py(), seen.slice(at, 2))
                before = table.slice(table.num_rows - 1)
            yield table

    def _refuse(self, key: str, rows: pa.Table) -> None:
        said = [f"{row.get('task')} of {row.get('lineage', {}).get('annotated_image')}" for row in rows.to_pylist()]
        raise VistuneError(f"two {self.kind} share the id {key} ({' and '.join(said)}). An id must name one of them.")

    def _write(self, table: pa.Table, number: int) -> Shard:
        import pyarrow.parquet as pq

        name = f"{self.kind}-{number:05d}.parquet"
        with atomic(self.folder / name) as path:
            pq.write_table(
                table.combine_chunks(),
                path,
                version="2.6",
                data_page_version="1.0",
                compression="zstd",
                compression_level=3,
                row_group_size=GROUP_ROWS,
                sorting_columns=[pq.SortingColumn(self.schema.get_field_index(c)) for c in self.order],
            )
            size, digest = path.stat().st_size, file_digest(path)
        ends = [self._key(table, row)[0] for row in (0, table.num_rows - 1)] if table.num_rows else ["", ""]
        return Shard(name, table.num_rows, size, digest, *ends)


def _concat(tables: list[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(tables).combine_chunks()
