"""A part of a data set's rows -> samples and rejects as columns, in whichever process it happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.adapt import Params
from vistune.adapt.adapter import Adapter
from vistune.adapt.tasks import TASKS
from vistune.adapt.turns import DIALOGUE, MULTI_TURN
from vistune.adapt.vocabulary import Statistics
from vistune.collection import no_collection
from vistune.records import Category, Reject, Sample, SourceFile
from vistune.schema import arrow_schema, from_batch, to_batch
from vistune.sources import Dataset, Tally
from vistune.sources.join import annotated, listed
from vistune.sources.rows import DialogueRow, Entry, Listing

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 256
"""Images of a chunk: some thousand samples, which take about a second."""

EXAMPLES = 12


class Tables:
    """Counts of the samples that pass, and one example of each task and language."""

    def __init__(self) -> None:
        self.by: dict[str, Counter[str]] = {
            name: Counter() for name in ("task", "language", "polarity", "dataset", "split", "template")
        }
        self.examples: dict[tuple[str, str], Sample] = {}

    def count(self, samples: Iterable[Sample]) -> None:
        by = self.by
        for s in samples:
            by["task"][s.task] += 1
            by["language"][s.language] += 1
            by["dataset"][s.dataset] += 1
            by["split"][s.split] += 1
            for template in s.lineage.template.split():  # one of each turn
                by["template"][template] += 1
            if s.polarity:
                by["polarity"][f"{s.task}.{s.polarity}"] += 1
            self._show(s)

    def merge(self, other: Tables) -> None:
        for name, counter in other.by.items():
            self.by[name].update(counter)
        for sample in other.examples.values():
            self._show(sample)

    def counts(self) -> dict[str, dict[str, int]]:
        return {name: dict(sorted(counter.items())) for name, counter in self.by.items()}

    def shown(self, first: str) -> list[dict[str, Any]]:
        """Up to `EXAMPLES` samples as rows: each task in language `first`, then some of the others."""
        ordered = sorted(self.examples.values(), key=lambda s: (s.language != first, s.id))[:EXAMPLES]
        tasks = [*TASKS, MULTI_TURN, DIALOGUE]
        return [asdict(s) for s in sorted(ordered, key=lambda s: (s.language != first, tasks.index(s.task)))]

    def plain(self) -> dict[str, Any]:
        """Everything, as JSON takes it; `of` reads it."""
        return {"by": {k: dict(v) for k, v in self.by.items()}, "examples": [asdict(s) for s in self.examples.values()]}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Tables:
        import pyarrow as pa

        made = cls()
        for name, counter in plain["by"].items():
            made.by[name].update(counter)
        for sample in from_batch(pa.RecordBatch.from_pylist(plain["examples"], arrow_schema(Sample)), Sample):
            made._show(sample)
        return made

    def _show(self, sample: Sample) -> None:
        key = (sample.language, sample.task)
        if key not in self.examples or sample.id < self.examples[key].id:  # ids are hashes: a draw without a draw
            self.examples[key] = sample


@dataclass(frozen=True)
class Chunk:
    """Some rows of a data set, and what all of its rows share."""

    dataset: Dataset
    files: tuple[SourceFile, ...]
    vocabulary: dict[str, Category]
    statistics: Statistics
    rows: Sequence[Entry | DialogueRow]


@dataclass(frozen=True)
class Part:
    """What became of a chunk."""

    rows: int
    images: int  # that could be used; a dialogue counts as one
    entered: int  # candidates, and rows that the reader refused
    samples: pa.RecordBatch
    rejects: pa.RecordBatch
    reasons: Counter[str]  # of the rejects
    tables: Tables


def chunks(dataset: Dataset, files: tuple[SourceFile, ...], listing: Listing) -> Iterator[Chunk]:
    """The rows of a data set, in parts that several processes can work at."""
    shown = (entry.rows["object"] for entry in listing.images.values())
    statistics = Statistics.of([row.record.category.label for row in objects] for objects in shown)
    rows = listed(listing)
    for start in range(0, len(rows), ROWS):
        yield Chunk(dataset, files, listing.vocabulary, statistics, rows[start : start + ROWS])


class Worker:
    """Turns one chunk after another into parts. Nothing but what is costly to make again is kept between them."""

    def __init__(self, params: Params, seed: int, root: Path) -> None:
        self.root = root
        self._statistics: dict[str, Statistics] = {}
        self._adapter = Adapter(params, seed, self._statistics)

    def __call__(self, chunk: Chunk) -> Part:
        adapter, dataset = self._adapter, chunk.dataset
        refused: list[Reject] = []
        adapter.rejects, adapter.candidates, adapter.images = [], 0, 0
        self._statistics.setdefault(dataset.name, chunk.statistics)
        listing = Listing(dataset.name, "adapt", refused, Tally(), vocabulary=chunk.vocabulary)
        samples: list[Sample] = []
        with no_collection():
            for image in annotated(self.root, dataset, listing, chunk.rows, chunk.files):
                samples += adapter.samples(image, dataset.tasks)
        rejects = refused + adapter.rejects
        tables = Tables()
        tables.count(samples)
        return Part(
            len(chunk.rows),
            adapter.images,
            adapter.candidates + len(refused),
            to_batch(samples, Sample),
            to_batch(rejects, Reject),
            Counter(r.reason for r in rejects),
            tables,
        )
