"""Two models that answered the same questions, side by side: what the second gains over the first, with its interval.

Of each answer only its scores are kept (`rows`), so that a model can be compared with one that was measured long ago
and is never asked again. Answers are paired item by item; items about one image belong together, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vistune.answers import Answer, Scores, meant
from vistune.files import read_json, read_lines
from vistune.hashing import canonical
from vistune.statistics import Estimate, describe, estimate

KEPT = ("benchmark", "item", "kind", "image", "cluster", "metrics", "terms")
"""Fields of an answer that a later comparison reads: no question, no text."""

CONFIDENCE = 0.95

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the champion of its time. Without an estimate they cannot be compared, and `missing` says
    why."""

    champion: str  # its version
    benchmarks: tuple[str, ...] = ()
    metric: str = ""
    higher_is_better: bool = True  # else the estimate is of champion - candidate: always a gain
    estimate: Estimate | None = None  # of CONFIDENCE
    missing: str = ""

    @property
    def worse(self) -> bool:
        """Whether the candidate is shown to be worse: the whole interval lies below zero."""
        return self.estimate is not None and self.estimate.high < 0

    @property
    def sentence(self) -> str:
        if self.estimate is None:
            return f"not compared with champion version {self.champion}: {self.missing}."
        how = "" if self.higher_is_better else f" (less {self.metric} is better)"
        found = "worse" if self.worse else "better" if self.estimate.low > 0 else "neither better nor worse for certain"
        return f"gain over champion version {self.champion}{how}: {describe(self.estimate, self.metric)}: {found}."

    def facts(self) -> dict[str, Any]:
        """JSON-able; what `read` takes."""
        return asdict(self)

    @classmethod
    def read(cls, facts: Row) -> Comparison:
        found = facts.get("estimate")
        names = tuple(facts.get("benchmarks", ()))
        return cls(**{**facts, "benchmarks": names, "estimate": Estimate(**found) if found else None})


def rows(scorecard: Path) -> list[dict[str, Any]]:
    """What is kept of the tuned model's answers about the true images, without those that training has seen
    (`contaminated.json`); in the order of their items."""
    seen = set(read_json(scorecard / "contaminated.json")) if (scorecard / "contaminated.json").is_file() else set()
    found = [
        {key: row[key] for key in KEPT if key in row}
        for row in read_lines(scorecard / "answers.jsonl")
        if (row.get("model"), row.get("condition")) == ("tuned", "image") and row.get("item") not in seen
    ]
    return sorted(found, key=lambda row: (row["item"], row.get("kind", "")))


def compare(champion: str, candidate: Iterable[Row], kept: Iterable[Row], verdict: Row, seed: int) -> Comparison:
    """The candidate's gain over the champion on the target that the gate of `verdict` declares, over the items that
    both have. candidate, kept: `rows` of both; champion: its version."""
    ours, theirs = ({_key(row): row for row in found} for found in (candidate, kept))
    target = (verdict.get("gate") or {}).get("target") or {}
    known = sorted({row["benchmark"] for row in ours.values()})
    names, metric = meant(target.get("benchmarks") or (), known), target.get("metric", "accuracy")
    checks = [check for check in verdict.get("checks") or [] if check.get("role") == "target"]
    better = {check.get("higher_is_better", True) for check in checks} or {True}
    made = Comparison(champion, names, metric, better != {False})
    if not names or better not in ({True}, {False}):
        return _without(made, f"the gate declares no target of which more or less {metric or 'of a metric'} is better")
    both = sorted(ours.keys() & theirs.keys())
    answers = [_answer(ours[key], "candidate") for key in both] + [_answer(theirs[key], "champion") for key in both]
    scores = Scores(answers)
    columns = [scores.column(names, model, "image", metric) for model in ("candidate", "champion")]
    if any(column is None for column in columns):
        return _without(made, f"one of both has no {metric} of {' and '.join(names)}")
    gained = scores.difference(*(columns if made.higher_is_better else columns[::-1]))
    assert gained is not None
    found = estimate(gained.values, gained.images, seed, confidence=CONFIDENCE)
    if not found.finite:
        return _without(made, f"{found.images} image{'s' * (found.images != 1)} in common give no interval")
    return Comparison(champion, names, metric, made.higher_is_better, found)


def _without(made: Comparison, missing: str) -> Comparison:
    return Comparison(made.champion, made.benchmarks, made.metric, made.higher_is_better, None, missing)


def _key(row: Row) -> tuple[str, str]:
    return row["item"], row.get("kind", "")


def _answer(row: Row, model: str) -> Answer:
    terms = {metric: {k: tuple(v) for k, v in parts.items()} for metric, parts in (row.get("terms") or {}).items()}
    not_kept: dict[str, Any] = dict.fromkeys(("task", "concepts", "path", "question", "gold", "answer"), "")
    given: dict[str, Any] = {"image": "", "kind": "", "cluster": "", "metrics": {}, **row, "terms": terms}
    return Answer(**not_kept, scores={}, model=model, condition="image", **given)


def lines(found: Sequence[Row]) -> bytes:
    """Rows as a JSON Lines file: equal rows give equal bytes."""
    return b"".join(canonical(row) + b"\n" for row in found)
