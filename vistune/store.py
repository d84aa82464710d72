"""Records and images on disk.

A record folder holds `samples-00000.parquet ...` and `rejects-00000.parquet ...` (zstd, no pixels), sorted by id
and written with pinned settings, so equal records give equal bytes. Images lie once each, under the digest of
their bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.files import atomic, inside, link_file
from vistune.hashing import file_digest
from vistune.records import ImageRef, Reject, Sample
from vistune.schema import (
    reject_from_row,
    reject_schema,
    reject_to_row,
    sample_from_row,
    sample_schema,
    sample_to_row,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

SHARD_ROWS = 50_000

MAX_IMAGE_PIXELS = 64_000_000
"""Larger images are refused before they are decoded (a decompression bomb is small on disk)."""


def write_samples(folder: Path, samples: Iterable[Sample]) -> int:
    """Writes samples sorted by id. Raises VistuneError when two samples share an id."""
    ordered = sorted(samples, key=lambda s: s.id)
    for a, b in pairwise(ordered):
        if a.id == b.id:
            raise VistuneError(f"two samples share the id {a.id} ({a.task} of {a.lineage.annotated_image}).")
    return _write(folder, "samples", (sample_to_row(s) for s in ordered), sample_schema())


def read_samples(folder: Path) -> Iterator[Sample]:
    """Samples in id order, one shard in memory at a time."""
    for row in _read(folder, "samples"):
        yield sample_from_row(row)


def write_rejects(folder: Path, rejects: Iterable[Reject]) -> int:
    ordered = sorted(rejects, key=lambda r: (r.stage, r.reason, r.key, r.detail))
    return _write(folder, "rejects", (reject_to_row(r) for r in ordered), reject_schema())


def read_rejects(folder: Path) -> Iterator[Reject]:
    for row in _read(folder, "rejects"):
        yield reject_from_row(row)


def counts(entered: int, kept: int, rejects: Iterable[Reject]) -> dict[str, Any]:
    """The count table of a stage. Raises VistuneError unless in = out + rejected: a row was lost or invented."""
    reasons = dict(sorted(Counter(r.reason for r in rejects).items()))
    if entered != kept + sum(reasons.values()):
        raise VistuneError(
            f"rows do not add up: {entered} in, {kept} out, {sum(reasons.values())} rejected. This is a defect "
            "in vistune; please report it with the stage's inputs."
        )
    return {"in": entered, "out": kept, "rejected": reasons}


def _write(folder: Path, kind: str, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for old in folder.glob(f"{kind}-*.parquet"):
        old.unlink()
    total, shard = 0, 0
    buffer: list[dict[str, Any]] = []

    def flush() -> None:
        nonlocal shard
        table = pa.Table.from_pylist(buffer, schema=schema)
        with atomic(folder / f"{kind}-{shard:05d}.parquet") as path:
            pq.write_table(table, path, compression="zstd", version="2.6", row_group_size=10_000)
        shard += 1
        buffer.clear()

    for row in rows:
        buffer.append(row)
        total += 1
        if len(buffer) == SHARD_ROWS:
            flush()
    if buffer or shard == 0:
        flush()
    return total


def _read(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    shards = sorted(folder.glob(f"{kind}-*.parquet"))
    if not shards:
        raise VistuneError(f"no {kind}-*.parquet in {folder}. Run the stage that writes it, or check the path.")
    for shard in shards:
        yield from pq.read_table(shard).to_pylist()


def image_path(sha256: str, format: str) -> str:
    """Where an image lies in a release, relative to its folder.

    >>> image_path("ab12", "png")
    'images/ab/ab12.png'
    """
    return f"images/{sha256[:2]}/{sha256}.{format}"


def add_image(folder: Path, source: Path, image: ImageRef) -> ImageRef:
    """Places the image file `source` under its digest in `folder` and returns the reference to that copy.
    Raises VistuneError when the bytes are not those the reference names."""
    found = file_digest(source)
    if found != image.sha256:
        raise VistuneError(f"{source} changed: expected sha256 {image.sha256[:12]}…, found {found[:12]}….")
    relative = image_path(image.sha256, image.format)
    target = folder / relative
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        link_file(source, target)
    return ImageRef(image.sha256, image.width, image.height, image.format, relative)


def describe_image(root: Path, relative: str) -> ImageRef:
    """Reads digest, upright size and format of an image file without decoding its pixels.
    Raises VistuneError for a missing, unreadable, or too large file."""
    from PIL import Image, UnidentifiedImageError

    path = inside(root, relative)
    if not path.is_file():
        raise VistuneError(f"image file {relative} is missing in {root}.")
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_IMAGE_PIXELS:
                raise VistuneError(f"image {relative} has {width}x{height} pixels; the limit is {MAX_IMAGE_PIXELS:,}.")
            if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # turned by 90 degrees
                width, height = height, width
            kind = (image.format or "").lower()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise VistuneError(f"image {relative} cannot be read ({error}).") from None
    return ImageRef(file_digest(path), width, height, kind, relative)


def open_image(root: Path, image: ImageRef) -> Image.Image:
    """The decoded, upright RGB picture. Raises VistuneError when the bytes cannot be decoded."""
    from PIL import Image, ImageOps

    path = inside(root, image.path)
    try:
        with Image.open(path) as raw:
            if raw.width * raw.height > MAX_IMAGE_PIXELS:
                raise VistuneError(f"image {image.path} has {raw.width}x{raw.height} pixels; too large to decode.")
            picture = ImageOps.exif_transpose(raw)
            return picture.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise VistuneError(f"image {image.path} ({image.sha256[:12]}…) cannot be decoded: {error}.") from None
