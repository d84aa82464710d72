"""Answers of a run, one per item, model and condition, and the score table that statistics work on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vistune.errors import VistuneError
from vistune.files import atomic
from vistune.hashing import canonical

Metric = Literal["accuracy", "accuracy_sum", "greedy", "exact_match"]


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
    metrics: dict[str, float]  # by name, each in [0, 1]
    scores: dict[str, float]  # choice -> mean log-probability per token, nats


@dataclass(frozen=True)
class Column:
    """One metric of one model under one condition: values float64 (N,), and which image each item is about."""

    items: tuple[str, ...]
    values: np.ndarray
    images: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)


class Scores:
    """The answers as columns, items in the order of their ids, so that columns of one benchmark are paired."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self.cells: dict[tuple[str, str, str], list[Answer]] = {}
        self.answers: dict[tuple[str, str, str, str], Answer] = {}
        for answer in sorted(answers, key=lambda a: a.item):
            self.cells.setdefault((answer.benchmark, answer.model, answer.condition), []).append(answer)
            key = (answer.kind, answer.item, answer.model, answer.condition)
            if key in self.answers:
                raise VistuneError(f"item {answer.item} was answered twice by {answer.model} ({answer.condition}).")
            self.answers[key] = answer
        self.benchmarks = sorted({key[0] for key in self.cells})

    def column(
        self, benchmarks: Sequence[str], model: str, condition: str, metric: Metric = "accuracy"
    ) -> Column | None:
        """The metric over all items of the benchmarks, or None when any of them lacks it."""
        found: list[Answer] = []
        for benchmark in benchmarks:
            cell = [a for a in self.cells.get((benchmark, model, condition), []) if metric in a.metrics]
            if not cell:
                return None
            found += cell
        if not found:
            return None
        values = np.array([a.metrics[metric] for a in found], dtype=np.float64)
        return Column(tuple(a.item for a in found), values, tuple(a.image for a in found))

    def difference(self, a: Column | None, b: Column | None) -> Column | None:
        """a - b item by item. Raises VistuneError when they are not about the same items."""
        if a is None or b is None:
            return None
        if a.items != b.items:
            odd = sorted(set(a.items) ^ set(b.items))
            raise VistuneError(f"{len(odd)} items were answered on one side only, first {odd[0] if odd else '?'}.")
        return Column(a.items, a.values - b.values, a.images)

    def asked(self, benchmark: str) -> list[Answer]:
        """Each ranked item of a benchmark once, whoever answered it."""
        seen = {a.item: a for a in self.answers.values() if a.benchmark == benchmark and a.kind == "choice"}
        return [seen[item] for item in sorted(seen)]


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """One JSON object a line, sorted, so that equal answers give equal bytes."""
    ordered = sorted(answers, key=lambda a: (a.model, a.condition, a.kind, a.item))
    with atomic(path) as temporary, open(temporary, "wb") as file:
        for answer in ordered:
            file.write(canonical(asdict(answer)) + b"\n")


def read_answers(path: Path) -> list[Answer]:
    with open(path, encoding="utf-8") as file:
        rows: list[dict[str, Any]] = [json.loads(line) for line in file]
    return [Answer(**row) for row in rows]
