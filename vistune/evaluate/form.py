"""The published form of `scorecard.json` and `verdict.json`; docs/schema/ has both as JSON Schemas.

Shares are in [0, 1]. A number that could not be computed is null, and never a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vistune.evaluate.gate import Check, Gate, Verdict
from vistune.evaluate.heldout import Standing


@dataclass(frozen=True)
class Score:
    """One model under one condition."""

    model: str  # "base", "tuned", or the name of a server
    condition: Literal["image", "shuffled", "blank", "none"]  # what it was shown
    mean: float | None  # the score
    low: float | None  # ends of the interval
    high: float | None
    error: float | None  # standard error, clustered by image
    items: int
    images: int
    accuracy_sum: float | None = None  # ranked by the sum of log-probabilities instead of their mean
    greedy: float | None = None  # share of items whose gold choice greedy decoding would say


@dataclass(frozen=True)
class Difference:
    """Item by item on the same questions."""

    of: tuple[str, str]  # model, condition
    minus: tuple[str, str]
    mean: float | None
    low: float | None
    high: float | None
    error: float | None
    items: int
    images: int
    detectable: float | None  # smallest true difference found with 80 % power


@dataclass(frozen=True)
class Measured:
    """A metric beside accuracy."""

    metric: str
    higher_is_better: bool | None  # None: neither
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Part:
    """Some of a benchmark's items."""

    name: str
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class YesNo:
    """How often a model says yes, and how often that is right."""

    model: str
    condition: str
    items: int
    said_yes: float
    is_yes: float
    true_yes: float | None  # share of yes where the answer is yes
    false_yes: float | None  # share of yes where the answer is no
    neither: float


@dataclass(frozen=True)
class Lengths:
    """Words of the free answers."""

    model: str
    condition: str
    answers: int
    mean: float
    median: float
    p95: float
    longest: int
    empty: float


@dataclass(frozen=True)
class Contamination:
    """What training saw of a published benchmark."""

    items: int
    contaminated: int
    how: dict[str, int]  # pixels, near, mirrored, question, question about the picture -> items
    example: dict[str, str] | None  # item, sample, how


@dataclass(frozen=True)
class Published:
    """A published benchmark as its task file states it, and what was read."""

    title: str
    split: str
    prompt: str  # whose
    homepage: str
    items: int  # of the split
    counted: str  # where that figure comes from
    held: int  # items in the files that were read, before the limit
    notice: str  # "" where both are the same


@dataclass(frozen=True)
class Asked:
    """The judge."""

    model: str
    versions: tuple[str, ...]  # that answered, as the server names them
    votes: int  # on each answer


@dataclass(frozen=True)
class Group:
    """Several benchmarks as one."""

    name: str
    benchmarks: tuple[str, ...]
    chance: float | None  # of a random choice
    majority: float | None  # of always giving the most frequent answer
    scores: tuple[Score, ...]  # accuracy
    differences: tuple[Difference, ...]
    exact_match: tuple[Score, ...]
    metrics: tuple[Measured, ...]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark."""

    name: str
    task: str
    concepts: str  # how far training knew what is shown; "external" for published ones
    trained_task: bool
    licence: str
    chance: float | None
    majority: float | None
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    exact_match: tuple[Score, ...]
    metrics: tuple[Measured, ...]
    categories: tuple[Part, ...]
    yes_no: tuple[YesNo, ...]
    lengths: tuple[Lengths, ...]
    parts: tuple[Part, ...]  # clean and contaminated items, where training saw some
    wording_of: str = ""  # the benchmark that this one asks in other words
    standing: Standing | None = None  # published ones: whether their task clusters were trained on
    contamination: Contamination | None = None
    published: Published | None = None


@dataclass(frozen=True)
class Span:
    """Scores of one task under all wordings."""

    task: str
    low: float
    mean: float
    high: float
    wordings: int


@dataclass(frozen=True)
class Sensitivity:
    """How far a model's scores move with the wording (MultiInstruct)."""

    model: str
    condition: str
    sensitivity: float | None
    tasks: tuple[Span, ...]


@dataclass(frozen=True)
class Options:
    """Of the statistics."""

    seed: int
    replicates: int
    confidence: float


@dataclass(frozen=True)
class Scorecard:
    """scorecard.json: every score beside its blind baselines."""

    schema: int
    primary: str  # how accuracy is scored
    options: Options
    runs: dict[str, tuple[str, ...]]  # model -> conditions
    benchmarks: tuple[Benchmark, ...]
    groups: tuple[Group, ...]
    concepts: tuple[Part, ...]
    sensitivity: tuple[Sensitivity, ...]
    suite: str
    models: dict[str, str]  # model -> digest of its files
    limit: int | None  # images per benchmark
    judge: Asked | None  # None: none was asked


@dataclass(frozen=True)
class Decision:
    """verdict.json: what the gate decided and on which evidence."""

    schema: int
    gate_name: str
    verdict: Verdict
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]  # those that decide
    considered: tuple[Check, ...]  # of benchmarks that were free to improve
    gate: Gate


FORMS: dict[str, type] = {"scorecard": Scorecard, "verdict": Decision}
"""File -> its form."""
