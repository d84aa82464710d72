"""Which rows of a shard of samples rest on an annotation: `annotations-00000.parquet` beside `samples-00000.parquet`.

Two columns, `annotation` (sorted) and `row`, so that parquet's statistics lead to one row group, where reading the
lists of ids of a million samples takes a second. An index is made from its shard alone and names the digest of that:
one that is missing, or left from another attempt, is not used, and the shard is read instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vistune import shards
from vistune.files import atomic

if TYPE_CHECKING:
    import pyarrow as pa

OF = b"vistune.shard"
"""Key of the metadata that holds the SHA-256 of the indexed shard."""


def index_path(shard: Path) -> Path:
    """
    >>> index_path(Path("out/samples-00007.parquet")).name
    'annotations-00007.parquet'
    """
    return shard.with_name("annotations-" + shard.name.rpartition("-")[2])


def write_index(shard: Path, sha256: str, samples: pa.Table) -> None:
    """Indexes the rows of a shard; one of a single row group is read as fast without."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if samples.num_rows <= shards.GROUP_ROWS:
        return
    ids = pc.struct_field(samples["lineage"].combine_chunks(), "annotation_ids")
    table = pa.table({"annotation": pc.list_flatten(ids), "row": pc.list_parent_indices(ids).cast(pa.int32())})
    table = table.take(pc.sort_indices(table, sort_keys=[("annotation", "ascending"), ("row", "ascending")]))
    with atomic(index_path(shard)) as path:
        pq.write_table(
            table.replace_schema_metadata({OF: sha256}),
            path,
            version="2.6",
            data_page_version="1.0",
            compression="zstd",
            compression_level=3,
            row_group_size=shards.GROUP_ROWS,
        )


def indexed_rows(shard: Path, sha256: str, annotation: pa.StringScalar) -> pa.Array | None:
    """The rows of a shard that rest on an annotation, in order, each once. None where there is no index of it."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path, wanted = index_path(shard), str(annotation)
    if not path.is_file():
        return None
    with pq.ParquetFile(path) as file:
        if (file.metadata.metadata or {}).get(OF) != sha256.encode():
            return None
        found = []
        for group in range(file.num_row_groups):
            bounds = file.metadata.row_group(group).column(0).statistics
            if bounds is None or bounds.min <= wanted <= bounds.max:  # none: no sample rests on any
                part = file.read_row_group(group, use_threads=False)
                found += part["row"].filter(pc.equal(part["annotation"], annotation)).chunks
    return pa.chunked_array(found, pa.int32()).combine_chunks().unique()
