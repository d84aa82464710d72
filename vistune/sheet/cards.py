"""What the sheet shows: which samples, their boxes in each format, and where these lie when they are read back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.adapt.geometry import iou
from vistune.boxcodec import Codec
from vistune.errors import VistuneError
from vistune.export.release import Release
from vistune.export.rendering import Tally, mentions, render
from vistune.hashing import keyed
from vistune.progress import track
from vistune.records import Box, ImageRef, Region, Sample
from vistune.schema import from_table
from vistune.store import shards

if TYPE_CHECKING:
    from PIL.Image import Image

REGIONS = 4
"""Boxes drawn of a sample that has more."""

SIDE = 400  # pixels of a picture's longer side


@dataclass(frozen=True)
class Mark:
    """One box of a panel: where the stored one lies, and the one that its text names."""

    label: str
    colour: int
    stored: Box
    text: str
    read: Box

    @property
    def overlap(self) -> float:
        return iou(self.stored, self.read)


@dataclass(frozen=True)
class Panel:
    """A picture in the frame of one format. `pieces` is the text, with the number of the mark that a piece is."""

    codec: Codec
    frame: Box  # in pixels of the image; what lies outside the image is padding
    marks: tuple[Mark, ...] = ()
    pieces: tuple[tuple[str, int | None], ...] = ()
    problem: str = ""

    @property
    def overlap(self) -> float:
        return min((mark.overlap for mark in self.marks), default=0.0)


@dataclass(frozen=True)
class Card:
    sample: Sample
    image: ImageRef
    picture: Image = field(repr=False)
    panels: tuple[Panel, ...] = ()


def cards(release: Path, codecs: Sequence[Codec], count: int) -> list[Card]:
    """Cards of up to `count` images. Raises VistuneError when no sample of the release has a box."""
    source = Release(release)
    ids = choose(release, count)
    if not ids:
        raise VistuneError(f"no sample of {release} has a box, so there is nothing to draw.")
    samples = _fetch(release, ids)
    return [card(source, samples[id], codecs) for id in track(ids, "sheet", unit="images")]


def choose(release: Path, count: int) -> list[str]:
    """Ids of the samples to show, one for each image, drawn by a keyed hash. Samples with a box in their text come
    first, and among them images that are not square, since a square needs no padding and hides a wrong frame."""
    best: dict[str, tuple[bool, bool, int, str]] = {}
    columns = ["id", "images.list.element.sha256", "images.list.element.width", "images.list.element.height"]
    columns += ["regions.list.element.image", "regions.list.element.mention"]
    for row in _rows(release, columns):
        if row["regions"]:
            image = row["images"][_first(row["regions"])["image"]]
            silent = not any(region["mention"] for region in row["regions"])
            rank = (silent, image["width"] == image["height"], keyed(0, "sheet", row["id"]), row["id"])
            best[image["sha256"]] = min(rank, best.get(image["sha256"], rank))
    return [rank[-1] for rank in sorted(best.values())[:count]]


def _rows(release: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of all samples, a few thousand rows in memory at a time."""
    import pyarrow.parquet as pq

    for shard in shards(release, "samples"):
        with pq.ParquetFile(release / shard.name) as file:
            for batch in file.iter_batches(5_000, columns=columns):
                yield from batch.to_pylist()


def _fetch(release: Path, ids: Sequence[str]) -> dict[str, Sample]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = pc.field("id").isin(pa.array(ids, pa.string()))
    tables = (pq.read_table(release / shard.name, filters=wanted) for shard in shards(release, "samples"))
    return {sample.id: sample for table in tables for sample in from_table(table, Sample)}


def _first(regions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first region with a mention, or else the first."""
    return next((region for region in regions if region["mention"]), regions[0])


def card(source: Release, sample: Sample, codecs: Sequence[Codec]) -> Card:
    from PIL import Image

    written = mentions(sample)
    shown = next((r.image for r in (*written.values(), *sample.regions)), 0)
    image = sample.images[shown]
    _, content = source.image(sample, image)
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return Card(sample, image, picture, tuple(panel(sample, shown, codec) for codec in codecs))


def panel(sample: Sample, shown: int, codec: Codec) -> Panel:
    """The boxes of image number `shown` in the text that an export with `codec` holds; where no box stands in the
    text, names with their boxes as the format writes them."""
    image = sample.images[shown]
    try:
        x, y = codec.axes(image.width, image.height)
    except ValueError as error:
        return Panel(codec, (0, 0, image.width, image.height), problem=str(error))
    frame = (-x.before, -y.before, x.span - x.before, y.span - y.before)
    tally = Tally()
    rendered = render(sample, codec, tally)
    boxes = mentions(sample)
    pairs = zip(sample.regions, rendered.regions, strict=True)
    written = {after.mention: after for before, after in pairs if before.mention in boxes and after.image == shown}
    if not written:
        return _of_regions(sample, shown, codec, frame)
    if tally.samples_kept:
        return Panel(codec, frame, problem=f"the export keeps the text of the release: {', '.join(tally.samples_kept)}")
    return _of_text(rendered, written, codec, frame)


def _of_text(rendered: Sample, written: dict[tuple[int, ...], Region], codec: Codec, frame: Box) -> Panel:
    pieces: list[tuple[str, int | None]] = []
    marks: list[Mark] = []
    for number in sorted({mention[0] for mention in written}):
        text, at = rendered.messages[number].text, 0
        for _, start, end in sorted(mention for mention in written if mention[0] == number):
            region = written[number, start, end]
            pieces += [(text[at:start], None), (text[start:end], len(marks))]
            marks.append(_mark(region, text[start:end], rendered.images[region.image], codec, len(marks)))
            at = end
        pieces.append((text[at:] + "\n", None))
    return Panel(codec, frame, tuple(marks), tuple(pieces))


def _of_regions(sample: Sample, shown: int, codec: Codec, frame: Box) -> Panel:
    image = sample.images[shown]
    regions = sorted((r for r in sample.regions if r.image == shown), key=lambda r: (-_area(r.box), r.annotation_id))
    pieces: list[tuple[str, int | None]] = []
    marks: list[Mark] = []
    for region in [r for r in regions if _area(r.box) < 0.98 * image.width * image.height][:REGIONS] or regions[:1]:
        line = codec.named(region.label, codec.encode(region.box, image.width, image.height))
        marks.append(_mark(region, line, image, codec, len(marks)))
        pieces += [(line, len(marks) - 1), ("\n", None)]
    return Panel(codec, frame, tuple(marks), tuple(pieces))


def _mark(region: Region, text: str, image: ImageRef, codec: Codec, number: int) -> Mark:
    found = codec.pattern.search(text)
    if not found:
        raise ValueError(f"{text!r} holds no box of {codec.name}")
    return Mark(region.label, number, region.box, text, codec.decode(found[0], image.width, image.height))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
