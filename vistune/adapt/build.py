"""The adapt stage: every image of every data set through every task and template, counted."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
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

    def most(self, before: Counter[str] | None = None) -> str:
        """The most frequent reasons, of all rejects or of those since `before`."""
        found = (self.reasons - (before or Counter())).most_common(5)
        return ", ".join(f"{count} {reason}" for reason, count in found) or "none"


def build(params: Params, sources: Path, output: Path, seed: int) -> dict[str, Any]:
    """Writes samples, rejects and counts of all data sets to `output`, and returns the stage's summary.
    Raises VistuneError when a data set has no usable image, or when no sample comes out at all.

    The result does not depend on the number of processes, nor on the order of rows in the sources."""
    first = Adapter(params, seed).languages[0]  # a defect in params or templates shows before the sources are read
    root, datasets = _datasets(params, sources, output)
    with RecordWriter(output, "samples") as samples, RecordWriter(output, "rejects") as rejects:
        totals = _adapt(params, seed, root, datasets, samples, rejects)
        table = counts(totals.entered, samples.rows, totals.reasons)
        if not samples.rows:
            raise VistuneError(
                f"adapt made no sample from {totals.images} images; rejected: {totals.most()}. "
                "Check the data sets' annotations, adapt.allow_licences and adapt.per_image."
            )
        samples.finish()
        rejects.finish()
    tally = {**table, "images": totals.images, **totals.tables.counts()}
    write_json(output / "counts.json", tally)
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
            "examples": totals.tables.shown(first.code),
        },
    }


def _datasets(params: Params, sources: Path, output: Path) -> tuple[Path, tuple[Dataset, ...]]:
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


def _adapt(
    params: Params,
    seed: int,
    root: Path,
    datasets: tuple[Dataset, ...],
    samples: RecordWriter,
    rejects: RecordWriter,
) -> Totals:
    """Files are read here; images are opened and asked about in `params.workers` processes."""
    totals = Totals()
    pool: Workers[Chunk, Part] = Workers(params.workers or cores(), Worker, params, seed, root, preload=PRELOAD)
    with pool, Progress("adapt", 0, "images") as bar:
        for dataset in datasets:
            refused: list[Reject] = []
            before, images = Counter(totals.reasons), totals.images
            listing = list_rows(root, dataset, refused, "adapt", Tally())
            totals.entered += len(refused)
            totals.reasons.update(r.reason for r in refused)
            rejects.add(to_batch(refused, Reject))
            rows = len(listing.images) + len(listing.dialogues)
            bar.total += rows
            work = chunks(dataset, source_files(root, dataset), listing)
            for part in pool.map(work, apart=bool(params.workers) or rows >= WORTH_A_POOL):
                totals.add(part)
                samples.add(part.samples)
                rejects.add(part.rejects)
                bar.step(part.rows, note=f"{rejects.rows:,} rejected")
            if totals.images == images:
                raise VistuneError(
                    f"data set {dataset.name} ({dataset.split}) has no usable image; rejected rows: "
                    f"{totals.most(before)}. Check its images folder and annotation files."
                )
    return totals
