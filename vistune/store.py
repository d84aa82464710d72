"""Records and images on disk: the door that stages use.

A record folder holds `samples-00000.parquet ...` and `rejects-00000.parquet ...` (zstd, no pixels), sorted and
written with pinned settings, so equal records give equal bytes, and `records.json`, written last, which lists them
with their digests. Shards it does not list are not read. Large shards of samples have an index (`annotationindex`).
Images lie once each, under the digest of their bytes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import lru_cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vistune.annotationindex import write_index
from vistune.errors import VistuneError
from vistune.files import inside, read_json, write_json
from vistune.hashing import file_digest, merkle_root
from vistune.imagefile import MAX_IMAGE_PIXELS, decode, describe_image
from vistune.imageshards import ShardedImages
from vistune.imagestore import INDEX, ImageStore, LooseImages, Slice, image_path, open_store
from vistune.progress import track
from vistune.records import SCHEMA_VERSION, ImageRef, Reject, Sample
from vistune.schema import from_batch, to_batch
from vistune.shards import Shard, SortedShards

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

__all__ = [
    "MANIFEST",
    "MAX_IMAGE_PIXELS",
    "RecordWriter",
    "add_image",
    "add_images",
    "copy_records",
    "counts",
    "describe_image",
    "image_file",
    "image_path",
    "named_image",
    "open_image",
    "open_store",
    "pack_images",
    "read_rejects",
    "read_samples",
    "shards",
    "verify",
    "write_rejects",
    "write_samples",
]

MANIFEST = "records.json"

LOOSE = 2_000
"""Images of a release that lie in files of their own; more are put in shards."""

BATCH = 2_000
"""Records that are turned into columns, or back, at a time."""

KINDS: dict[str, tuple[type, tuple[str, ...], bool]] = {
    "samples": (Sample, ("id",), True),
    "rejects": (Reject, ("stage", "reason", "key", "detail"), False),
}
"""Kind of record -> type, sort key, and whether the key names one record."""

T = TypeVar("T")


class RecordWriter(SortedShards):
    """Shards of one kind, and their entry in the folder's manifest. Memory is that of a shard."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(folder, kind, *KINDS[kind])
        _list(folder, kind, None)
        for name in (kind, "annotations") if kind == "samples" else (kind,):
            for pattern in (f"{name}-*.parquet", f".{name}-*.tmp"):  # of an earlier attempt, whole or cut short
                for old in folder.glob(pattern):
                    old.unlink()

    def finish(self) -> list[Shard]:
        written = super().finish()
        _list(self.folder, self.kind, written)
        return written

    def _write(self, table: pa.Table, number: int) -> Shard:
        shard = super()._write(table, number)
        if self.kind == "samples":
            write_index(self.folder / shard.name, shard.sha256, table)
        return shard


def write_samples(folder: Path, samples: Iterable[Sample]) -> int:
    """Writes samples sorted by id. Raises VistuneError when two samples share an id."""
    return _write(folder, "samples", samples)


def read_samples(folder: Path) -> Iterator[Sample]:
    """Samples in id order, a few thousand in memory at a time."""
    return _read(folder, "samples", Sample)


def write_rejects(folder: Path, rejects: Iterable[Reject]) -> int:
    return _write(folder, "rejects", rejects)


def read_rejects(folder: Path) -> Iterator[Reject]:
    return _read(folder, "rejects", Reject)


def copy_records(folder: Path, kind: str, out: RecordWriter) -> None:
    """Adds the records of a folder to those that `out` will sort and write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for shard in shards(folder, kind):
        with pq.ParquetFile(inside(folder, shard.name)) as file:
            for batch in file.iter_batches(BATCH):
                for part in pa.Table.from_batches([batch]).cast(out.schema).to_batches():
                    out.add(part)


def counts(entered: int, kept: int, rejects: Iterable[Reject] | Mapping[str, int]) -> dict[str, Any]:
    """The count table of a stage; `rejects` are the records, or their number by reason.
    Raises VistuneError unless in = out + rejected: a row was lost or invented."""
    by_reason = rejects if isinstance(rejects, Mapping) else Counter(r.reason for r in rejects)
    reasons = dict(sorted(by_reason.items()))
    if entered != kept + sum(reasons.values()):
        raise VistuneError(
            f"rows do not add up: {entered} in, {kept} out, {sum(reasons.values())} rejected. This is a defect "
            "in vistune; please report it with the stage's inputs."
        )
    return {"in": entered, "out": kept, "rejected": reasons}


def shards(folder: Path, kind: str) -> list[Shard]:
    """The shards of a record folder, in order. Raises VistuneError when they were not written to the end."""
    listed = _manifest(folder).get(kind)
    if listed is None:
        raise VistuneError(
            f"no {kind}-*.parquet in {folder} that {MANIFEST} lists. Run the stage that writes it, or check the path."
        )
    return [Shard(**shard) for shard in listed]


def verify(folder: Path) -> str:
    """Reads every record file again and returns the Merkle root of the folder. Raises VistuneError naming each file
    that is missing, changed, or does not hold the rows it should."""
    import pyarrow.parquet as pq

    manifest, defects = _manifest(folder), []
    if not manifest:
        raise VistuneError(f"{folder} holds no records ({MANIFEST} is missing). Run the stage that writes it.")
    for shard in (Shard(**s) for kind in KINDS for s in manifest.get(kind, [])):
        path = inside(folder, shard.name)
        if not path.is_file():
            defects.append(f"{shard.name} is missing")
        elif file_digest(path) != shard.sha256:
            defects.append(f"{shard.name} was changed")
        elif pq.read_metadata(path).num_rows != shard.rows:
            defects.append(f"{shard.name} should have {shard.rows} rows")
    if manifest["root"] != _root(manifest):
        defects.append(f"{MANIFEST} was changed")
    if defects:
        raise VistuneError(f"{folder}: {'; '.join(defects)}. Restore the files, or run the stage again.")
    return manifest["root"]


def _write(folder: Path, kind: str, records: Iterable[Any]) -> int:
    with RecordWriter(folder, kind) as out:
        rows = iter(records)
        while part := list(islice(rows, BATCH)):
            out.add(to_batch(part, KINDS[kind][0]))
        out.finish()
    return out.rows


def _read(folder: Path, kind: str, record: type[T]) -> Iterator[T]:
    import pyarrow.parquet as pq

    for shard in shards(folder, kind):
        path = folder / shard.name
        if not path.is_file():
            raise VistuneError(f"{path} is missing, but {MANIFEST} lists it. Run the stage that writes it again.")
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                yield from from_batch(batch, record)


def _manifest(folder: Path) -> dict[str, Any]:
    """What `records.json` says; empty without one. Raises VistuneError when other code wrote it."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    manifest = read_json(path)
    found = manifest.get("schema") if isinstance(manifest, dict) else None
    if found != SCHEMA_VERSION:
        raise VistuneError(
            f"{path} has record schema {found}; this vistune reads schema {SCHEMA_VERSION}. Run the stage that "
            "writes it again, or read it with the version that wrote it."
        )
    return manifest


def _list(folder: Path, kind: str, written: list[Shard] | None) -> None:
    """Enters the shards of one kind in the manifest, or (None) takes them out before they are replaced."""
    path = folder / MANIFEST
    if written is None and not path.is_file():
        return
    manifest = {key: value for key, value in read_json(path).items() if key in KINDS} if path.is_file() else {}
    manifest.pop(kind, None)
    if written is not None:
        manifest[kind] = [asdict(shard) for shard in written]
    manifest |= {"schema": SCHEMA_VERSION, "rows": {k: sum(s["rows"] for s in v) for k, v in manifest.items()}}
    write_json(path, {**manifest, "root": _root(manifest)})


def _root(manifest: Mapping[str, Any]) -> str:
    return merkle_root((s["name"], s["sha256"]) for kind in KINDS for s in manifest.get(kind, []))


def add_image(folder: Path, source: Path, image: ImageRef) -> ImageRef:
    """Places the image file `source` under its digest in `folder` and returns the reference to that copy.
    Raises VistuneError when the bytes are not those the reference names."""
    LooseImages(folder).add([(image, source)])
    return replace(image, path=image_path(image.sha256, image.format))


def add_images(folder: Path, images: Iterable[tuple[ImageRef, Path | Slice]], count: int) -> None:
    """Places `count` image files (reference, file or part of one) under their digests in a new `folder`: up to `LOOSE`
    as files of their own, more in shards, since DVC, copying and listing take their time for each file. Raises
    VistuneError when the bytes of one are not those its reference names."""
    store: ImageStore = LooseImages(folder) if count <= LOOSE else ShardedImages(folder)
    store.add(images)


def pack_images(root: Path, names: Iterable[str]) -> int:
    """Moves image files (paths in `root`) into shards of `root`, if there are more than `LOOSE`; `named_image` then
    finds them by the same paths. A file that is no image stays. Returns the number of files that went."""
    files = sorted(set(names))
    if len(files) <= LOOSE:
        return 0
    packed = dict(track(_described(root, files), "pack", len(files), "images"))
    shards = ShardedImages(root)
    shards.add((image, root / name) for name, image in packed.items())
    shards.name({name: image.sha256 for name, image in packed.items()})
    for name in packed:
        (root / name).unlink()
    return len(packed)


def _described(root: Path, names: Iterable[str]) -> Iterator[tuple[str, ImageRef]]:
    """Those that are images, described. Threads: hashing releases the lock, and results come in the order given."""

    def describe(name: str) -> ImageRef | None:
        try:
            return describe_image(root, name)
        except (VistuneError, OSError, SyntaxError, ValueError):
            return None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        rows = iter(names)
        while part := list(islice(rows, BATCH)):
            yield from ((n, i) for n, i in zip(part, pool.map(describe, part), strict=True) if i is not None)


def named_image(root: Path, name: str) -> ImageRef | None:
    """The image that had the path `name` in `root` before `pack_images`; None without one."""
    index = root / INDEX
    return _shards(root, index.stat().st_mtime_ns).named(name) if index.is_file() else None


def has_image(root: Path, name: str) -> bool:
    """Whether `root` holds an image of the path `name`, as a file or in its shards."""
    return inside(root, name).is_file() or named_image(root, name) is not None


def image_file(root: Path, image: ImageRef) -> Path | Slice:
    """Where the bytes of an image are: in a file (that may be missing), or in a shard of `root`."""
    path = inside(root, image.path)
    index = root / INDEX
    return path if path.is_file() or not index.is_file() else _shards(root, index.stat().st_mtime_ns).find(image.sha256)


def open_image(root: Path, image: ImageRef) -> Image.Image:
    """The decoded, upright RGB picture, from its file or from the image shards of `root`. Raises VistuneError when
    the bytes cannot be decoded."""
    found = image_file(root, image)
    return decode(BytesIO(found.read()) if isinstance(found, Slice) else found, image)


@lru_cache(maxsize=8)
def _shards(root: Path, changed: int) -> ShardedImages:
    return ShardedImages(root)
