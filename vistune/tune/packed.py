"""Readings -> one row of tokens that a model trains on: samples behind one another, what they share once.

Samples about the same pictures begin alike: system message, pictures, often the first words of the question. In a
causal model these tokens do not depend on what follows, so they are computed once and every sample continues from them
(`attention.branches`). The loss and every gradient are those of the samples one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vistune.models.families.base import Composed
from vistune.models.labels import IGNORE
from vistune.models.reader import Reader, Reading
from vistune.tune.attention import Segment, branches, no_mask
from vistune.tune.loss import predictors

if TYPE_CHECKING:
    from vistune.models.families.base import Picture


@dataclass
class Row:
    """Inputs of one forward pass, and what is learned of it. Targets are those of the samples, in their order."""

    inputs: dict[str, Any]
    predicts: Tensor  # int64 (N,), the token whose next one is learned, counted over all rows of the inputs
    targets: Tensor  # int64 (N,), that token
    owners: Tensor  # int64 (N,), the sample it belongs to, from 0
    tokens: int  # that samples have
    places: int  # of the inputs, padding included
    pictures: list[Picture]  # in reading order


def shared(readings: Sequence[Reading]) -> int:
    """How many tokens the readings have in common at their beginning and learn nothing of; 0 where that does not hold
    all pictures, or where there is only one reading. At least one token of each stays its own.

    >>> a = Reading((1, 9, 9, 5, 6), (IGNORE,) * 4 + (6,), (0,), (None,), ((1, 3),))
    >>> b = Reading((1, 9, 9, 5, 7, 8), (IGNORE,) * 5 + (8,), (0,), (None,), ((1, 3),))
    >>> shared([a, b]), shared([a])
    (4, 0)
    """
    if len(readings) < 2 or not readings[0].spans:
        return 0
    first = readings[0]
    length = min(reading.length for reading in readings) - 1
    for reading in readings:
        if reading.spans != first.spans:
            return 0
        same = 0
        for ours, theirs, label in zip(first.ids[:length], reading.ids, reading.labels, strict=False):
            if ours != theirs or label != IGNORE:
                break
            same += 1
        length = same
    return length if length >= first.spans[-1][1] else 0


def packed(reader: Reader, visits: Sequence[Sequence[Reading]], pictures: Sequence[Sequence[Picture]]) -> Row:
    """One row of tokens. visits: readings of samples about the same pictures each; pictures: those of each visit, in
    reading order."""
    ids: list[int] = []
    places: list[Tensor] = []
    types: list[int] = []
    segments: list[Segment] = []
    predicts: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    seen: list[Picture] = []
    kinds = reader.family.types if isinstance(reader.family, Composed) else None
    sample = 0
    for readings, shown in zip(visits, pictures, strict=True):
        common = shared(readings)
        begin = len(ids)
        for n, reading in enumerate(readings):
            start = common if n else 0
            offset = len(ids) - start
            if not common:
                segments.append(Segment(len(ids), len(ids) + reading.length))
            learned = [t for t in range(max(start, 1), reading.length) if reading.labels[t] != IGNORE]
            predicts += [offset + t - 1 if t > start else begin + common - 1 for t in learned]
            targets += [reading.labels[t] for t in learned]
            owners += [sample] * len(learned)
            ids += reading.ids[start:]
            places.append(reader.places(reading)[..., start:])
            types += kinds(reading)[start:] if kinds else []
            sample += 1
        if common:
            mask = branches(common, [reading.length - common for reading in readings])
            segments.append(Segment(begin, len(ids), mask))
        seen += shown if common else [picture for _ in readings for picture in shown]
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.cat(places, dim=-1).unsqueeze(-2),
        "attention_mask": no_mask(),
        "segments": segments,
    }
    if kinds:
        inputs["token_types"] = torch.tensor([types])
    inputs |= reader.pictures(seen)
    count = len(ids)
    return Row(inputs, _long(predicts), _long(targets), _long(owners), count, count, seen)


def padded(reader: Reader, visits: Sequence[Sequence[Reading]], pictures: Sequence[Sequence[Picture]]) -> Row:
    """One row for each sample, padded on the right: for models whose samples cannot share one."""
    readings = [reading for each in visits for reading in each]
    shown = [list(those) for each, those in zip(visits, pictures, strict=True) for _ in each]
    inputs = reader.batch(readings, shown)
    at, targets = predictors(inputs.pop("labels"))
    tokens = sum(reading.length for reading in readings)
    owners, predicts = at.nonzero()[:, 0], at.flatten().nonzero()[:, 0]
    return Row(inputs, predicts, targets, owners, tokens, at.numel(), [p for those in shown for p in those])


def _long(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.long)
