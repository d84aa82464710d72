"""Samples -> rows: what the model reads in one step, decided by keyed hashes alone.

A row is one image's visual prefix followed by segments, one per sample. `plan` is a pure function of its arguments,
so every process and every resumed run computes the same batches without looking at the past.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vistune.errors import VistuneError
from vistune.hashing import keyed, shuffled
from vistune.models.chat import Chat
from vistune.records import ImageRef, Sample
from vistune.tune import StageParams


@dataclass(frozen=True)
class Segment:
    sample: str  # sample id
    task: str
    ids: list[int]
    labels: list[int]

    @property
    def answers(self) -> int:
        """Learned tokens."""
        return sum(label >= 0 for label in self.labels)


@dataclass(frozen=True)
class Row:
    image: ImageRef
    prefix: list[int]
    segments: tuple[Segment, ...]

    @property
    def length(self) -> int:
        return len(self.prefix) + sum(len(s.ids) for s in self.segments)


@dataclass(frozen=True)
class Plan:
    """batches[step] lists the rows of that step over all processes."""

    batches: list[list[Row]]
    too_long: dict[str, int]  # sample id -> tokens: over the stage's limit, or could not fit in a row even alone

    def describe(self) -> dict[str, Any]:
        rows = [row for batch in self.batches for row in batch]
        tokens = sum(row.length for row in rows)
        padded = sum(len(batch) * max(row.length for row in batch) for batch in self.batches)
        segments = [s for row in rows for s in row.segments]
        return {
            "steps": len(self.batches),
            "images": len({row.image.sha256 for row in rows}),
            "visits": len(rows),
            "samples": len({s.sample for s in segments}),
            "samples_by_task": dict(sorted(Counter(s.task for s in segments).items())),
            "tokens": tokens,
            "answer_tokens": sum(s.answers for s in segments),
            "padding": round(1 - tokens / padded, 4) if padded else 0.0,
            "longest_row": max((row.length for row in rows), default=0),
            "left_out_too_long": len(self.too_long),
        }


def select(samples: Iterable[Sample], stage: StageParams, seed: int, split: str = "train") -> dict[str, list[Sample]]:
    """The stage's samples by image digest. Raises VistuneError when nothing is left to train on."""
    tasks = {"caption"} if stage.objective != "instruct" else set(stage.mixture)
    by_image: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if (
            sample.split == split
            and (not stage.datasets or sample.dataset in stage.datasets)
            and (not tasks or sample.task in tasks)
            and (not stage.languages or sample.language in stage.languages)
            and len(sample.images) == 1
        ):
            by_image[sample.images[0].sha256].append(sample)
    if not by_image and split == "train":
        raise VistuneError(
            f"training stage {stage.name} finds no samples: split {split}, datasets {list(stage.datasets) or 'all'}, "
            f"tasks {sorted(tasks) or 'all'}, languages {list(stage.languages)}. Check tune.stages against the release."
        )
    chosen = sorted(by_image, key=lambda image: keyed(seed, stage.name, "images", image))[: stage.images or None]
    return {image: sorted(by_image[image], key=lambda s: s.id) for image in sorted(chosen)}


class Packer:
    """Builds rows: one image's visual prefix and the samples of one visit, while they fit in `max_tokens`."""

    def __init__(self, by_image: Mapping[str, Sequence[Sample]], chat: Chat, stage: StageParams, seed: int) -> None:
        self.by_image, self.chat, self.stage, self.seed = by_image, chat, stage, seed
        self.prefix = chat.prefix(1)
        self.limit = stage.max_tokens - len(self.prefix)
        if stage.longest:
            self.limit = min(self.limit, stage.longest)
        self.too_long: dict[str, int] = {}
        self._encoded: dict[str, Segment] = {}

    def row(self, image: str, epoch: int) -> Row | None:
        """None when no sample of the image fits."""
        fitting = [s for s in self.by_image[image] if len(self._segment(s).ids) <= self.limit]
        chosen: list[Segment] = []
        room = self.stage.max_tokens - len(self.prefix)
        for sample in visit(fitting, self.stage, self.seed, epoch) if fitting else []:
            segment = self._segment(sample)
            if len(segment.ids) <= room:
                chosen.append(segment)
                room -= len(segment.ids)
        reference = self.by_image[image][0].images[0]
        return Row(reference, self.prefix, tuple(chosen)) if chosen else None

    def _segment(self, sample: Sample) -> Segment:
        if sample.id not in self._encoded:
            segment = Segment(sample.id, sample.task, *self.chat.turns(sample.messages))
            self._encoded[sample.id] = segment
            if len(segment.ids) > self.limit:
                self.too_long[sample.id] = len(segment.ids)
        return self._encoded[sample.id]


def plan(by_image: Mapping[str, Sequence[Sample]], chat: Chat, stage: StageParams, seed: int) -> Plan:
    """Batches for all steps: epochs over the images in keyed order, each visit with its own choice of samples.

    Rows of similar length are batched together (sorted within windows of 16 batches, whose order is shuffled), which
    saves padding.
    """
    packer = Packer(by_image, chat, stage, seed)
    images = list(by_image)
    batches: list[list[Row]] = []
    epoch = 0
    while len(batches) < stage.steps:
        order = shuffled(images, seed, stage.name, "order", epoch)
        needed = (stage.steps - len(batches)) * stage.batch
        rows = [row for image in order[:needed] if (row := packer.row(image, epoch)) is not None]
        if not rows:
            raise VistuneError(
                f"training stage {stage.name}: every sample is longer than a row ({stage.max_tokens} tokens with "
                f"{len(packer.prefix)} of visual prefix, longest {stage.longest}). Raise them in tune.stages."
            )
        short = -len(rows) % stage.batch  # filled from the front, so that every step has a full batch
        rows += (rows * (short // len(rows) + 1))[:short]
        batches += _bucket(rows, stage.batch, seed, (stage.name, epoch))
        epoch += 1
    return Plan(batches[: stage.steps], packer.too_long)


def visit(samples: Sequence[Sample], stage: StageParams, seed: int, epoch: int) -> list[Sample]:
    """The samples of one image that one visit uses: per task as many as the mixture says, by keyed order."""
    key = samples[0].images[0].sha256
    by_task: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda s: keyed(seed, stage.name, epoch, s.id)):
        by_task[sample.task].append(sample)
    chosen = [s for task, group in sorted(by_task.items()) for s in group[: stage.mixture.get(task, 1)]]
    return shuffled(chosen, seed, stage.name, "visit", epoch, key)


def _bucket(rows: list[Row], batch: int, seed: int, key: tuple[str, int]) -> list[list[Row]]:
    window = 16 * batch
    batches: list[list[Row]] = []
    for start in range(0, len(rows), window):
        part = sorted(rows[start : start + window], key=lambda r: (r.length, r.image.sha256))
        groups = [part[i : i + batch] for i in range(0, len(part), batch)]
        batches += shuffled(groups, seed, *key, "batches", start)
    return batches
