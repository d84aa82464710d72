"""Parquet files with the images inside, which Hugging Face `datasets` opens as they are: `images` is a list of Image
features, `messages` has the content blocks of transformers' chat templates.

Row groups hold at most 100 MB of images, as the Hub's viewer wants them, and files about 500 MB, as `datasets` writes
them by default. One row is never split.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.export.release import Release
from vistune.export.talk import blocks, shown, turns
from vistune.records import Sample

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

GROUP_BYTES = 100_000_000
GROUP_ROWS = 1_000
SHARD_BYTES = 500_000_000

TEXTS = ("instruction", "input", "response", "task", "dataset", "language", "licence", "attribution")


def write(release: Release, samples: Iterable[Sample], folder: Path) -> None:
    with ExitStack() as stack:
        files: dict[str, _Files] = {}
        for sample in samples:
            if sample.split not in files:
                files[sample.split] = stack.enter_context(_Files(folder, sample.split))
            files[sample.split].add(_row(release, sample))


def _row(release: Release, sample: Sample) -> dict[str, Any]:
    turns(sample)  # refuses what no chat template takes
    images = [release.image(sample, image) for image in shown(sample)]
    about = release.about(sample)
    return {
        "id": sample.id,
        "images": [{"bytes": content, "path": name} for name, content in images],
        "messages": [{"role": m.role, "content": blocks(m)} for m in sample.messages],
        **{name: about[name] for name in TEXTS},
    }


@cache
def schema() -> pa.Schema:
    """Columns, and under `huggingface` what `datasets` calls them."""
    import pyarrow as pa

    text = pa.string()
    image = pa.struct([("bytes", pa.binary()), ("path", text)])
    block = pa.struct([("type", text), ("text", text)])
    message = pa.struct([("role", text), ("content", pa.list_(block))])
    columns = [("id", text), ("images", pa.list_(image)), ("messages", pa.list_(message))]
    columns += [(name, text) for name in TEXTS]
    value = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = dict.fromkeys(("id", *TEXTS), value)
    features["images"] = {"feature": {"_type": "Image"}, "_type": "Sequence"}
    features["messages"] = [{"role": value, "content": [{"type": value, "text": value}]}]
    described = {"info": {"features": {name: features[name] for name, _ in columns}}}
    return pa.schema(columns, metadata={"huggingface": json.dumps(described)})


class _Files:
    """The files of one split: rows are gathered into row groups, row groups into files. The names say how many files
    there are, as the Hub has it, so they are given at the end."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self._rows: list[dict[str, Any]] = []
        self._size = 0  # bytes of images in these rows
        self._written: list[Path] = []
        self._file: pq.ParquetWriter | None = None
        self._file_size = 0

    def add(self, row: dict[str, Any]) -> None:
        size = sum(len(image["bytes"]) for image in row["images"])
        if self._rows and (self._size + size > GROUP_BYTES or len(self._rows) == GROUP_ROWS):
            self._write_group()
        self._rows.append(row)
        self._size += size

    def _write_group(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._file is not None and self._file_size + self._size > SHARD_BYTES:
            self._close()
        if self._file is None:
            self._written.append(self.folder / f"{self.split}-{len(self._written):05d}.parquet")
            self._file = pq.ParquetWriter(
                self._written[-1], schema(), version="2.6", compression="snappy", use_dictionary=list(TEXTS[3:])
            )
        self._file.write_table(pa.Table.from_pylist(self._rows, schema()), row_group_size=len(self._rows))
        self._file_size += self._size
        self._rows, self._size = [], 0

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file, self._file_size = None, 0
            with open(self._written[-1], "rb") as file:
                os.fsync(file.fileno())

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._rows:
            self._write_group()
        self._close()
        total = len(self._written)
        for number, path in enumerate(self._written):
            os.replace(path, self.folder / f"{self.split}-{number:05d}-of-{total:05d}.parquet")
