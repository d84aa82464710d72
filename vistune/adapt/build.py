"""The adapt stage: every image of every data set through every task and template, counted."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from vistune.adapt import Params
from vistune.adapt.adapter import Adapter
from vistune.adapt.chunks import Chunk, Part, Tables, Worker, chunks
from vistune.adapt.tasks import TASKS
from vistune.errors import VistuneError
from vistune.files import write_json
from vistune.params import unknown
from vistune.progress import Progress
from vistune.records import Reject
from vistune.schema import to_batch
from vistune.sources import Dataset, Tally, collect, load, parse_source, write_manifest
from vistune.sources.join import list_rows, source_files
from vistune.store import RecordWriter, counts
from vistune.workers import Workers, cores

WORTH_A_POOL = 1_000
"""Images of a data set below which starting processes takes longer than the work."""

PRELOAD = ("PIL.Image", "pyarrow", "pandas")
"""What opening images and writing columns imports; pyarrow imports pandas where it finds it."""


@dataclass
class Totals:
    """What became of all rows so far."""

    images: int = 0
    entered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # of the rejects
    tables: Tables = field(default_factory=Tables)

    def add(self, part: Part) -> None:
        self.images += part.images
        self.entered += part.entered
        self.reasons.update(part.reasons)
        self.tables.merge(part.tables)

    def merge(self, other: Totals) -> None:
        self.images += other.images
        self.entered += other.entered
        self.reasons.update(other.reasons)
        self.tables.merge(other.tables)

    def refuse(self, rejects: list[Reject]) -> None:
        """Counts rows that the reader refused before there was an image to open."""
        self.entered += len(rejects)
        self.reasons.update(r.reason for r in rejects)

    def most(self) -> str:
        """The most frequent reasons of the rejects."""
        return ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common(5)) or "none"


def build(params: Params, sources: Path, output: Path, seed: int) -> dict[str, Any]:
    """Writes samples, rejects and counts of all data sets to `output`, and returns the stage's summary.
    Raises VistuneError when a data set has no usable image, or when no sample comes out at all.

    The result does not depend on the number of processes, nor on the order of rows in the sources."""
    Adapter(params, seed)  # a defect in params or templates shows before the sources are read
    root, datasets = datasets_of(params, sources, output)
    with RecordWriter(output, "samples") as samples, RecordWriter(output, "rejects") as rejects:
        found = adapt(params, seed, root, datasets, samples, rejects)
        return conclude(params, seed, found, samples, rejects)


def conclude(
    params: Params, seed: int, found: Mapping[str, Totals], samples: RecordWriter, rejects: RecordWriter
) -> dict[str, Any]:
    """Finishes both writers, writes `counts.json` and returns the stage's summary. found: data set -> its totals."""
    for name, own in found.items():
        usable(name, own)
    totals = Totals()
    for own in found.values():
        totals.merge(own)
    table = counts(totals.entered, samples.rows, totals.reasons)
    if not samples.rows:
        raise VistuneError(
            f"adapt made no sample from {totals.images} images; rejected: {totals.most()}. "
            "Check the data sets' annotations, adapt.allow_licences and adapt.per_image."
        )
    samples.finish()
    rejects.finish()
    tally = {**table, "images": totals.images, **totals.tables.counts()}
    write_json(samples.folder / "counts.json", tally)
    presence = [tally["polarity"].get(f"presence.{answer}", 0) for answer in ("yes", "no")]
    return {
        "counts": table,
        "metrics": {
            "samples": float(samples.rows),
            "rejected": float(rejects.rows),
            "images": float(totals.images),
            "presence_yes_share": presence[0] / max(sum(presence), 1),
        },
        "details": {
            **{name: tally[name] for name in ("task", "language", "polarity", "dataset", "split")},
            "templates": len(tally["template"]),
            "examples": totals.tables.shown(Adapter(params, seed).languages[0].code),
        },
    }


def usable(name: str, totals: Totals) -> None:
    """Raises VistuneError when a data set has no usable image."""
    if not totals.images:
        raise VistuneError(
            f"data set {name} has no usable image; rejected rows: {totals.most()}. Check its images folder and "
            "annotation files."
        )


def datasets_of(params: Params, sources: Path, output: Path) -> tuple[Path, tuple[Dataset, ...]]:
    """The folder to read from and its data sets: the sources stage's, or those named by `params.sources`."""
    if not params.sources:
        root, datasets = sources, load(sources)[0]
    else:
        root = output / "sources"
        shutil.rmtree(root, ignore_errors=True)  # of an attempt that was killed
        manifest = collect(tuple(parse_source(text) for text in params.sources), (), root)
        write_manifest(root, manifest)
        datasets = manifest.datasets
    if not datasets:
        raise VistuneError(f"{root} lists no data set. Add one under sources.datasets, or keep the demo corpus.")
    for dataset in datasets:
        for task in dataset.tasks:
            if task not in TASKS:
                raise VistuneError(
                    f"data set {dataset.name}: " + unknown(f"tasks.{task}", [f"tasks.{t}" for t in TASKS])
                )
    return root, datasets


def adapt(
    params: Params,
    seed: int,
    root: Path,
    datasets: tuple[Dataset, ...],
    samples: RecordWriter,
    rejects: RecordWriter,
    part: tuple[int, int] = (0, 1),
) -> dict[str, Totals]:
    """Files are read here; images are opened and asked about in `params.workers` processes. part: (which, of how
    many): it takes every so manyth chunk, and the first one also what the readers refuse."""
    found: dict[str, Totals] = {}
    which, of = part
    pool: Workers[Chunk, Part] = Workers(params.workers or cores(), Worker, params, seed, root, preload=PRELOAD)
    with pool, Progress("adapt", 0, "images") as bar:
        for dataset in datasets:
            refused: list[Reject] = []
            totals = found.setdefault(f"{dataset.name} ({dataset.split})", Totals())
            listing = list_rows(root, dataset, refused, "adapt", Tally())
            if which == 0:
                totals.refuse(refused)
                rejects.add(to_batch(refused, Reject))
            rows = len(listing.images) + len(listing.dialogues)
            bar.total += rows // of
            work = islice(chunks(dataset, source_files(root, dataset), listing), which, None, of)
            for done in pool.map(work, apart=bool(params.workers) or rows // of >= WORTH_A_POOL):
                totals.add(done)
                samples.add(done.samples)
                rejects.add(done.rejects)
                bar.step(done.rows, note=f"{rejects.rows:,} rejected")
            if of == 1:
                usable(f"{dataset.name} ({dataset.split})", totals)  # before hours go into the others
    return found
