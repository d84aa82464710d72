"""The promotion gate: pass, fail or inconclusive, from intervals, never from point estimates.

The target must improve over the base model, and over the tuned model's own answers about shuffled images: a model
that does not look at the image cannot pass. Protected benchmarks must show no significant loss. Evidence that is
missing or not a number fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vistune.errors import VistuneError
from vistune.evaluate.answers import Column, Metric, Scores
from vistune.evaluate.statistics import Estimate, detectable, estimate, images_needed, sign_flip
from vistune.params import parse, read_tree

Verdict = Literal["pass", "fail", "inconclusive"]

EVERY = "*"


@dataclass(frozen=True)
class Target:
    """What must get better, as one mean over all items of these benchmarks ("*": every benchmark)."""

    benchmarks: tuple[str, ...]
    over: tuple[Literal["base", "shuffled"], ...] = ("base", "shuffled")
    above: float = 0.0  # the interval's lower end must be above this difference
    metric: Metric = "accuracy"


@dataclass(frozen=True)
class Protected:
    """What must not get worse: fails when the interval of tuned - base lies wholly below -margin."""

    benchmarks: tuple[str, ...]
    margin: float = 0.0
    metric: Metric = "accuracy"


@dataclass(frozen=True)
class Gate:
    target: Target
    protected: tuple[Protected, ...] = ()
    confidence: float = 0.95
    minimum_images: int = 30  # fewer cannot decide the target


@dataclass(frozen=True)
class Check:
    """One comparison with its evidence."""

    role: str  # "target" | "protected"
    comparison: str  # "tuned - base", "image - shuffled"
    benchmarks: tuple[str, ...]
    verdict: Verdict
    reason: str
    estimate: Estimate | None = None
    p_value: float | None = None  # sign-flip permutation of images
    detectable: float | None = None  # smallest true difference found with 80 % power
    images_needed: int | None = None  # that would decide a difference as large as the one seen


def load_gate(folder: Path, name: str) -> Gate:
    path = folder / "gates" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise VistuneError(f"there is no gate {name!r} ({path}). Known gates: {known or 'none'}.")
    gate = parse(Gate, read_tree(path.read_text(encoding="utf-8"), str(path)), name)
    if not gate.target.benchmarks or not gate.target.over:
        raise VistuneError(f"gate {name} names no target: target.benchmarks and target.over must not be empty.")
    return gate


def decide(gate: Gate, scores: Scores, seed: int, replicates: int = 2000) -> dict[str, Any]:
    """The verdict with its reasons and evidence, JSON-able. Any failed check fails; else any inconclusive one."""
    checks = [_target(gate, over, scores, seed, replicates) for over in gate.target.over]
    checks += [
        _protected(gate, one, name, scores, seed, replicates)
        for one in gate.protected
        for name in _expand(one.benchmarks, scores)
    ]
    verdicts = {check.verdict for check in checks}
    verdict: Verdict = "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"
    decisive = [c for c in checks if c.verdict == verdict and (verdict != "pass" or c.role == "target")]
    return {
        "verdict": verdict,
        "reasons": [c.reason for c in decisive],
        "checks": [_plain(asdict(check)) for check in checks],
        "gate": asdict(gate),
    }


def _target(gate: Gate, over: str, scores: Scores, seed: int, replicates: int) -> Check:
    target = gate.target
    names = _expand(target.benchmarks, scores)
    other = ("base", "image") if over == "base" else ("tuned", "shuffled")
    comparison = "tuned - base" if over == "base" else "image - shuffled"
    column, missing = _difference(scores, names, other, target.metric)
    if column is None:
        return Check("target", comparison, names, "fail", f"target, {comparison}: {missing}")
    found = estimate(column.values, column.images, seed, replicates, gate.confidence)
    text = f"target, {comparison}: {describe(found)}"
    if not _finite(found):
        return Check("target", comparison, names, "fail", f"{text}: not a number, so it cannot pass.", found)
    needed = images_needed(found.error, found.images, found.mean - target.above, gate.confidence)
    verdict: Verdict
    if found.images < gate.minimum_images:
        verdict, needed = "inconclusive", max(needed, gate.minimum_images)
        text += f": at least {gate.minimum_images} images are needed to decide."
    elif found.low > target.above:
        verdict, text = "pass", f"{text}: above {100 * target.above:g}."
    elif found.high <= target.above:
        verdict, text = "fail", f"{text}: not above {100 * target.above:g}."
    else:
        verdict = "inconclusive"
        text += f": the interval holds {100 * target.above:g}; "
        text += f"about {needed:,} images would decide." if needed else "no number of images would decide a zero."
    p = sign_flip(column.values - target.above, column.images, seed, replicates)
    return Check(
        "target", comparison, names, verdict, text, found, p, detectable(found.error, gate.confidence), needed or None
    )


def _protected(gate: Gate, rule: Protected, name: str, scores: Scores, seed: int, replicates: int) -> Check:
    column, missing = _difference(scores, (name,), ("base", "image"), rule.metric)
    if column is None:
        return Check("protected", "tuned - base", (name,), "fail", f"protected {name}: {missing}")
    found = estimate(column.values, column.images, seed, replicates, gate.confidence)
    text = f"protected {name}, tuned - base: {describe(found)}"
    beyond = f" beyond {100 * rule.margin:g} points" if rule.margin else ""
    verdict: Verdict
    if not _finite(found):
        verdict, text = "fail", f"{text}: not a number, so it cannot pass."
    elif found.high < -rule.margin:
        verdict, text = "fail", f"{text}: a significant loss{beyond}."
    else:
        verdict, text = "pass", f"{text}: no significant loss{beyond}."
    p = sign_flip(column.values, column.images, seed, replicates)
    least = detectable(found.error, gate.confidence)
    return Check("protected", "tuned - base", (name,), verdict, text, found, p, least)


def _difference(
    scores: Scores, names: Sequence[str], other: tuple[str, str], metric: Metric
) -> tuple[Column | None, str]:
    """tuned under the true image minus `other` (model, condition); or None and what is missing."""
    for model, condition in (("tuned", "image"), other):
        for name in names:
            if scores.column([name], model, condition, metric) is None:
                return None, f"no {metric} of {name} by {model} under {condition!r}, so it cannot pass."
    if not names:
        return None, "no benchmark was scored, so it cannot pass."
    tuned = scores.column(names, "tuned", "image", metric)
    return scores.difference(tuned, scores.column(names, *other, metric)), ""


def describe(found: Estimate) -> str:
    """A difference in words.

    >>> describe(Estimate(0.05, 0.01, 0.09, 0.02, 400, 100))
    '+5.0 points [+1.0, +9.0] on 400 questions about 100 images'
    """
    points = f"{100 * found.mean:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"{points} on {found.items:,} questions about {found.images:,} images"


def _expand(benchmarks: Sequence[str], scores: Scores) -> tuple[str, ...]:
    return tuple(scores.benchmarks) if EVERY in benchmarks else tuple(benchmarks)


def _finite(found: Estimate) -> bool:
    return all(math.isfinite(x) for x in (found.mean, found.low, found.high))


def _plain(value: Any) -> Any:
    """JSON has no NaN: null in its place."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
