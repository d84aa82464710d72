"""Answers of a run, one per item, model and condition, and the score table that statistics work on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vistune.errors import VistuneError
from vistune.files import atomic, read_lines
from vistune.hashing import canonical
from vistune.statistics import Terms, subtract

EVERY = "*"
"""In the place of benchmarks' names: all of them."""


def meant(benchmarks: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """The benchmarks that a gate names, among which `EVERY` stands for all that are `known`.

    >>> meant(("gqa",), ["gqa", "pope"]), meant(("*",), ["gqa", "pope"])
    (('gqa',), ('gqa', 'pope'))
    """
    return tuple(known) if EVERY in benchmarks else tuple(benchmarks)


@dataclass(frozen=True)
class Answer:
    """What one model answered to one question under one condition."""

    item: str
    benchmark: str
    task: str  # kind of question
    concepts: str
    image: str  # sha256 of the image the question is about
    path: str  # of that image, relative to the sources folder
    question: str
    gold: str
    model: str
    condition: str
    kind: str  # "choice": ranked by log-likelihood; "generation": free text
    answer: str
    metrics: dict[str, float]  # by name, those that are means over items
    scores: dict[str, float]  # choice -> mean log-probability per token, nats
    cluster: str = ""  # items of one are not independent of one another; empty: those about one image
    terms: dict[str, Terms] = field(default_factory=dict)  # metric -> what the item adds to a score over many


Directions = Mapping[str, Mapping[str, bool | None]]
"""benchmark -> metric -> whether higher is better; None: neither."""


@dataclass(frozen=True)
class Column:
    """One metric of one model under one condition, in the form of `statistics`: values float64 (N,) whose mean is the
    score, or (N, S, 2) terms of ratios; and which image (or larger cluster) each item is about."""

    items: tuple[str, ...]
    values: np.ndarray
    images: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)


class Scores:
    """The answers as columns, items in the order of their ids, so that columns of one benchmark are paired. Of what
    `better` does not name, more is better."""

    def __init__(self, answers: Iterable[Answer], better: Directions | None = None) -> None:
        self.better = better or {}
        self.cells: dict[tuple[str, str, str], list[Answer]] = {}
        self.answers: dict[tuple[str, str, str, str], Answer] = {}
        for answer in sorted(answers, key=lambda a: a.item):
            self.cells.setdefault((answer.benchmark, answer.model, answer.condition), []).append(answer)
            key = (answer.kind, answer.item, answer.model, answer.condition)
            if key in self.answers:
                raise VistuneError(f"item {answer.item} was answered twice by {answer.model} ({answer.condition}).")
            self.answers[key] = answer
        self.benchmarks = sorted({key[0] for key in self.cells})

    def column(self, benchmarks: Sequence[str], model: str, condition: str, metric: str = "accuracy") -> Column | None:
        """The metric over all items of the benchmarks, or None when any of them lacks it. Several benchmarks count by
        their items where the metric is a mean over items, else equally (POPE's F1 over three settings)."""
        cells = []
        for benchmark in benchmarks:
            cell = self.cells.get((benchmark, model, condition), [])
            cells.append([a for a in cell if metric in a.metrics or metric in a.terms])
        if not cells or not all(cells):
            return None
        found = [a for cell in cells for a in cell]
        if any(metric in a.terms for a in found):
            values = _terms(cells, metric)
            if self.higher_is_better(benchmarks, metric) is False and not values[..., 1].sum(0).all():
                values[...] = math.nan  # none of nothing is not the best score: captions that name no object at all
        else:
            values = np.array([a.metrics[metric] for a in found], dtype=np.float64)
        images = tuple(a.cluster or a.image or a.item for a in found)
        return Column(tuple(a.item for a in found), values, images)

    def higher_is_better(self, benchmarks: Sequence[str], metric: str) -> bool | None:
        """Of a metric; None where it is neither, or where the benchmarks disagree."""
        said = {self.better.get(name, {}).get(metric, True) for name in benchmarks}
        return said.pop() if len(said) == 1 else None if said else True

    def metrics(self, benchmark: str) -> list[str]:
        """Names of all metrics that any answer to the benchmark has."""
        cells = [cell for (name, _, _), cell in self.cells.items() if name == benchmark]
        return sorted({metric for cell in cells for a in cell for metric in (*a.metrics, *a.terms)})

    def difference(self, a: Column | None, b: Column | None) -> Column | None:
        """a - b item by item. Raises VistuneError when they are not about the same items."""
        if a is None or b is None:
            return None
        if a.items != b.items:
            odd = sorted(set(a.items) ^ set(b.items))
            raise VistuneError(f"{len(odd)} items were answered on one side only, first {odd[0] if odd else '?'}.")
        return Column(a.items, subtract(a.values, b.values), a.images)

    def asked(self, benchmark: str) -> list[Answer]:
        """Each ranked item of a benchmark once, whoever answered it."""
        return self._once(benchmark, "choice")

    def free(self, benchmark: str) -> list[Answer]:
        """Each item of a benchmark that is answered in free text once, whoever answered it."""
        return self._once(benchmark, "generation")

    def _once(self, benchmark: str, kind: str) -> list[Answer]:
        seen = {a.item: a for a in self.answers.values() if a.benchmark == benchmark and a.kind == kind}
        return [seen[item] for item in sorted(seen)]


def _terms(cells: Sequence[Sequence[Answer]], metric: str) -> np.ndarray:
    """The mean of the benchmarks' scores as a sum of ratios: float64 (N, S, 2)."""
    ratios: dict[tuple[int, str], int] = {}
    entries: list[tuple[int, int, float, float]] = []
    row = 0
    for place, cell in enumerate(cells):
        for answer in cell:
            # A mean over items beside others' ratios is a ratio as well.
            mean = {"": (answer.metrics[metric], 1.0)} if metric in answer.metrics else {}
            for name, (above, below) in answer.terms.get(metric, mean).items():
                column = ratios.setdefault((place, name), len(ratios))
                entries.append((row, column, above / len(cells), below))
            row += 1
    values = np.zeros((row, len(ratios), 2))
    for item, column, above, below in entries:
        values[item, column] = above, below
    return values


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """One JSON object a line, sorted, so that equal answers give equal bytes."""
    ordered = sorted(answers, key=lambda a: (a.model, a.condition, a.kind, a.item))
    with atomic(path) as temporary, open(temporary, "wb") as file:
        for answer in ordered:
            file.write(canonical(asdict(answer)) + b"\n")


def read_answers(path: Path) -> list[Answer]:
    return [Answer(**row) for row in read_lines(path)]
