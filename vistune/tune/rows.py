"""The rows of a plan: what one process reads in one forward pass, from texts and pictures to tensors.

A row is a pure function of its packs, so worker processes can make rows ahead of the training loop, in any number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from vistune.interrupt import keep_working
from vistune.models.families.base import Picture
from vistune.models.labels import IGNORE
from vistune.models.reader import Reader, Reading
from vistune.store import open_image
from vistune.tune import StageParams
from vistune.tune.loss import weights
from vistune.tune.packed import Row, packed, padded
from vistune.tune.plan import Pack, Plan, Visit

if TYPE_CHECKING:
    from torch import Tensor

    from vistune.tune.features import Features

BLANK = (32, 32)
"""Pixels of the picture that stands in where the vision encoder must take part and no sample has one."""


@dataclass
class Batch:
    """A row with what the loop needs beside it."""

    row: Row
    weights: Tensor  # float32 (N,), of each target
    tasks: list[str]  # of each target
    blank: bool = False  # the row ends with a picture that nothing is learned of


class Builder:
    """`touch`: rows without pictures get a blank one, so that all processes of a step run the same layers.
    evidence: of other models about an image, by its digest, for families that take any."""

    def __init__(
        self,
        reader: Reader,
        root: Path,
        stage: StageParams,
        features: Features | None = None,
        touch: bool = False,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        self.reader, self.root, self.stage, self.features, self.touch = reader, root, stage, features, touch
        self.evidence = evidence or {}

    def batch(self, plan: Plan, packs: Sequence[Pack]) -> Batch:
        visits = [visit for one in packs for visit in one]
        readings = [[self._read(plan, n) for n in visit.samples] for visit in visits]
        pictures = [self._look(plan, visit, each[0]) for visit, each in zip(visits, readings, strict=True)]
        tasks = [plan.samples[n].task for visit in visits for n in visit.samples]
        blank = not visits or (self.touch and not any(pictures))
        if blank:
            readings.append([self._blank()])
            pictures.append(self._nothing(readings[-1][0]))
        row = (packed if self.reader.family.packs else padded)(self.reader, readings, pictures)
        if self.features is not None and row.pictures:
            row.inputs["image_features"] = self.features.of(row.pictures)
        owners = row.owners.tolist()
        return Batch(row, weights(row.owners, self.stage.weighting), [tasks[n] for n in owners], blank)

    def _read(self, plan: Plan, n: int) -> Reading:
        return self.reader.read_sample(plan.samples[n])

    def _look(self, plan: Plan, visit: Visit, reading: Reading) -> list[Picture]:
        images = plan.samples[visit.samples[0]].images
        if self.features is not None:  # the encoder has seen them: their views are not needed again
            return [
                Picture(view_plan, (), images[number].sha256)
                for number, view_plan in zip(reading.images, reading.plans, strict=True)
            ]
        aside = [self.evidence.get(image.sha256) for image in images] if self.evidence else ()
        return self.reader.look(reading, [open_image(self.root, image) for image in images], aside)

    def _blank(self) -> Reading:
        plan = self.reader.plan(*BLANK)
        ids = tuple(self.reader.picture(plan))
        return Reading(ids, (IGNORE,) * len(ids), (0,), (plan,), ((0, len(ids)),))

    def _nothing(self, reading: Reading) -> list[Picture]:
        from PIL import Image

        if self.features is not None:
            return []
        return self.reader.look(reading, [Image.new("RGB", BLANK)])


class Batches(Dataset[Batch]):
    """The forward passes of one process, in order: `together` packs each, the same number in every step."""

    def __init__(self, builder: Builder, plan: Plan, rank: int, processes: int, start: int = 0) -> None:
        self.builder, self.plan = builder, plan
        self.passes: list[tuple[int, list[Pack], bool]] = []  # step, packs, whether they are its last
        for step in range(start, len(plan.steps)):
            packs = plan.steps[step]
            mine = [*packs, *[()] * (-len(packs) % processes)][rank::processes]
            size = builder.stage.together or len(mine)
            parts = [mine[n : n + size] for n in range(0, len(mine), size)]
            self.passes += [(step, part, n + 1 == len(parts)) for n, part in enumerate(parts)]

    def __len__(self) -> int:
        return len(self.passes)

    def __getitem__(self, n: int) -> Batch:
        return self.builder.batch(self.plan, self.passes[n][1])


def stream(batches: Batches, workers: int) -> Iterator[tuple[int, bool, Batch]]:
    """(step, whether it is the step's last pass, batch), made ahead by so many processes."""
    loader: Any = DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        persistent_workers=False,
        prefetch_factor=2 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=keep_working,
        generator=torch.Generator(),  # its own: the loop's dropout must not depend on the number of workers
    )
    for (step, _, last), batch in zip(batches.passes, loader, strict=True):
        yield step, last, batch
