"""What samples take in a pack, from their texts and the sizes of their pictures; no picture is opened."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from vistune.errors import VistuneError
from vistune.models.labels import IGNORE
from vistune.models.reader import Reader, Reading
from vistune.records import Sample
from vistune.tune import StageParams

if TYPE_CHECKING:
    from vistune.tune.operations import Operations


class Length(NamedTuple):
    """Of one sample, in tokens."""

    tokens: int
    common: int  # up to the end of its last picture: what samples about the same pictures share
    answers: int  # learned
    visual: int  # of pictures, with the text of their layout
    patches: int  # that the vision encoder sees
    cost: float  # of a training step without logits: operations, or where those are not known, tokens


class Lengths:
    """Lengths of samples, measured when they are asked for, and why those are left out that the stage cannot train
    on, by id."""

    def __init__(
        self, samples: Sequence[Sample], reader: Reader, stage: StageParams, operations: Operations | None = None
    ) -> None:
        self.samples, self.stage, self.operations = samples, stage, operations
        self.most = min(stage.max_tokens, reader.preset.limit)
        self.reader = copy(reader)  # a sample is left out with its length, whatever the model's limit
        self.reader.preset = replace(reader.preset, limit=sys.maxsize)
        self.known: dict[int, Length] = {}
        self.left_out: dict[str, str] = {}

    def fits(self, n: int) -> bool:
        """Whether the stage can train on sample n, whose length is then known."""
        if n in self.known:
            return True
        sample = self.samples[n]
        if sample.id in self.left_out:
            return False
        try:
            length = self.measure(sample)
        except VistuneError as refused:
            self.left_out[sample.id] = str(refused)
            return False
        if reason := self.refusal(length):
            self.left_out[sample.id] = reason
        else:
            self.known[n] = length
        return n in self.known

    def refusal(self, length: Length) -> str:
        """Why the stage does not train on a sample of this length; empty where it does."""
        if length.tokens > self.most:
            return f"{length.tokens} tokens, at most {self.most} fit"
        own = length.tokens - length.common
        if self.stage.longest and own > self.stage.longest:
            return f"{own} tokens of its own, at most {self.stage.longest}"
        return ""

    @property
    def estimated(self) -> int:
        """Samples whose length is an estimate."""
        return 0

    @property
    def error(self) -> float:
        """Of the tokens of all samples together, as a share."""
        return 0.0

    def measure(self, sample: Sample) -> Length:
        """Exact: as the model reads it. Raises VistuneError for what cannot be read."""
        return length_of(reading := self.reader.read_sample(sample), self.cost(reading))

    def cost(self, reading: Reading) -> float:
        return self.operations(reading) if self.operations else float(reading.length)


def length_of(reading: Reading, cost: float) -> Length:
    views = [view for plan in reading.plans for view in plan.views]
    return Length(
        reading.length,
        reading.spans[-1][1] if reading.spans else 0,
        sum(label != IGNORE for label in reading.labels),
        sum(end - start for start, end in reading.spans),
        sum(view.patches[0] * view.patches[1] for view in views),
        cost,
    )
