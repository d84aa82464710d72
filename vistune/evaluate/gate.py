"""The promotion gate: pass, fail or inconclusive, from intervals, never from point estimates.

The target must improve over the base model, and over the tuned model's own answers about shuffled images: a model
that does not look at the image cannot pass. An improvement needs both an interval above the bound and a permutation
test that agrees, since intervals of few images that differ at all are too narrow. Protected benchmarks must be shown
to be no worse than a margin (non-inferiority). Evidence that is missing or not a number fails.

Where less of a metric is better (CHAIR's shares of invented objects, an error rate), the sides change places: the check
is of base - tuned. So every difference is a gain, whatever its metric, and every bound stays on the same side.

All of these must hold, so none needs a correction for their number (an intersection-union test); where any of several
benchmarks may improve, their p-values are adjusted by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from vistune.answers import Column, Scores, meant
from vistune.errors import VistuneError
from vistune.params import parse, read_tree
from vistune.statistics import (
    Estimate,
    describe,
    detectable,
    estimate,
    holm,
    images_needed,
    mcnemar,
    one_sided,
    scale,
    sign_flip,
)

Verdict = Literal["pass", "fail", "inconclusive"]

Role = Literal["target", "protected"]


@dataclass(frozen=True)
class Target:
    """What must get better ("*": every benchmark)."""

    benchmarks: tuple[str, ...]
    over: tuple[Literal["base", "shuffled"], ...] = ("base", "shuffled")
    above: float = 0.0  # the interval's lower end must be above this difference
    metric: str = "accuracy"
    # together: one score over all items of these benchmarks. each: every one of them. any: at least one of them.
    improve: Literal["together", "each", "any"] = "together"


@dataclass(frozen=True)
class Protected:
    """What must not get worse."""

    benchmarks: tuple[str, ...]
    margin: float = 0.0  # a loss as large as this is bearable
    metric: str = "accuracy"
    together: bool = False  # one score over all items of these benchmarks, else each by itself
    # non_inferiority: passes when the one-sided interval of tuned - base lies above -margin.
    # no_significant_loss: fails only when the interval lies below -margin; for sets too small to show the former.
    rule: Literal["non_inferiority", "no_significant_loss"] = "non_inferiority"


@dataclass(frozen=True)
class Gate:
    target: Target
    protected: tuple[Protected, ...] = ()
    confidence: float = 0.95
    minimum_images: int = 30  # fewer cannot decide the target, nor show non-inferiority

    def among(self, candidates: int) -> Gate:
        """The gate for the best of so many models: the chance to pass one by luck stays what it is for one alone
        (Bonferroni).

        >>> round(Gate(Target(("vqa",)), confidence=0.95).among(5).confidence, 4)
        0.99
        """
        return replace(self, confidence=1 - (1 - self.confidence) / candidates) if candidates > 1 else self


@dataclass(frozen=True)
class Check:
    """One comparison with its evidence."""

    role: Role
    comparison: str  # "tuned - base", "image - shuffled"; the other way round where less is better
    benchmarks: tuple[str, ...]
    verdict: Verdict
    reason: str
    metric: str = "accuracy"
    higher_is_better: bool | None = True  # of the metric, as its benchmark says; None: neither, which cannot pass
    scale: float = 100.0  # the estimate times this is in points
    bound: float = 0.0  # what the lower end must be above
    estimate: Estimate | None = None
    low_one_sided: float | None = None  # non-inferiority: the lower end that is compared with the bound
    p_value: float | None = None  # sign-flip permutation of images, of a difference equal to the bound
    p_holm: float | None = None  # the same, adjusted for the number of benchmarks that may improve
    p_mcnemar: float | None = None  # exact, where each image has one right-or-wrong item
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
    if not 0.5 <= gate.confidence < 1:
        raise VistuneError(f"{name}.confidence is {gate.confidence}; expected a share from 0.5 to below 1.")
    if gate.minimum_images < 2:
        raise VistuneError(f"{name}.minimum_images is {gate.minimum_images}; expected at least 2.")
    for number, rule in enumerate(gate.protected):
        if not 0 <= rule.margin < math.inf or not rule.benchmarks:
            where = f"{name}.protected[{number}]"
            raise VistuneError(
                f"{where} has margin {rule.margin} and {len(rule.benchmarks)} benchmarks; expected a "
                "margin of at least 0, as a share (0.02 is two points), and at least one benchmark."
            )
        if rule.rule == "non_inferiority" and rule.margin == 0:
            raise VistuneError(
                f"{name}.protected[{number}]: non-inferiority needs a margin above 0; none would show "
                "a difference of exactly nothing. Set margin, or rule: no_significant_loss."
            )
    return gate


def decide(gate: Gate, scores: Scores, seed: int, replicates: int = 2000) -> dict[str, Any]:
    """The verdict with its reasons and evidence, JSON-able. Any failed check fails; else any inconclusive one.
    `considered` holds the checks of benchmarks that were free to improve and on which nothing hangs."""
    referee = Referee(gate, scores, seed, replicates)
    checks, considered = referee.targets()
    for one in gate.protected:
        names = referee.expand(one.benchmarks)
        checks += [referee.protected(one, part) for part in ([names] if one.together else [(name,) for name in names])]
    verdicts = {check.verdict for check in checks}
    verdict: Verdict = "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"
    decisive = [c for c in checks if c.verdict == verdict and (verdict != "pass" or c.role == "target")]
    return {
        "verdict": verdict,
        "reasons": [c.reason for c in decisive],
        "checks": [_plain(asdict(check)) for check in checks],
        "considered": [_plain(asdict(check)) for check in considered],
        "gate": asdict(gate),
    }


@dataclass(frozen=True)
class Referee:
    """Applies a gate to scores."""

    gate: Gate
    scores: Scores
    seed: int
    replicates: int

    def targets(self) -> tuple[list[Check], list[Check]]:
        """The checks that decide, and those of benchmarks that need not improve."""
        target = self.gate.target
        names = self.expand(target.benchmarks)
        if target.improve == "together" or not names:
            return [self.target(names, over) for over in target.over], []
        found = {name: [self.target((name,), over) for over in target.over] for name in names}
        if target.improve == "each":
            return [check for checks in found.values() for check in checks], []
        return self._any(found)

    def _any(self, found: dict[str, list[Check]]) -> tuple[list[Check], list[Check]]:
        """A benchmark improves when it does over everything asked for, so its p-value is the largest of these."""
        known = {n: max(map(_improves, cs)) for n, cs in found.items() if all(c.p_value is not None for c in cs)}
        adjusted = holm(known)
        for name, checks in found.items():
            found[name] = [self._adjusted(c, adjusted.get(name), len(adjusted)) for c in checks]
        won = [n for n, checks in found.items() if all(c.verdict == "pass" for c in checks)]
        missing = [n for n in found if n not in known]
        deciding = missing or won
        if not deciding:  # nothing improved for certain: fails only where all are certain not to
            open_ = [n for n, checks in found.items() if all(c.verdict != "fail" for c in checks)]
            deciding = open_ or list(found)
        rest = [c for n, checks in found.items() if n not in deciding for c in checks]
        return [c for n in deciding for c in found[n]], rest

    def _adjusted(self, check: Check, p: float | None, number: int) -> Check:
        check = replace(check, p_holm=p)
        if check.verdict == "pass" and p is not None and p > 1 - self.gate.confidence:
            text = f"{check.reason} As one of {number} that may improve: p = {p:.3f} by Holm, not below "
            return replace(check, verdict="inconclusive", reason=f"{text}{1 - self.gate.confidence:g}.")
        return check

    def target(self, names: tuple[str, ...], over: str) -> Check:
        """Superiority over the base model, or over shuffled images."""
        gate, bound, metric = self.gate, self.gate.target.above, self.gate.target.metric
        other = ("base", "image") if over == "base" else ("tuned", "shuffled")
        sides = ("tuned", "base") if over == "base" else ("image", "shuffled")
        check, words = self._opened("target", sides, names, metric, bound)
        about = f"target, {words}" + (f" on {names[0]}" if gate.target.improve != "together" else "")
        column, missing = self.difference(names, other, metric)
        if column is None:
            return replace(check, reason=f"{about}: {missing}")
        found = estimate(column.values, column.images, self.seed, self.replicates, gate.confidence)
        text = f"{about}: {describe(found, metric)}"
        if not found.finite:
            return replace(check, reason=f"{text}: {_missing(found)}, so it cannot pass.", estimate=found)
        needed = images_needed(found.error, found.images, found.mean - bound, gate.confidence)
        p = self.p_value(column, bound)
        limit = _points(bound, metric)
        verdict: Verdict = "inconclusive"
        if found.images < gate.minimum_images:
            needed = max(needed, gate.minimum_images)
            text += f": at least {gate.minimum_images} images are needed to decide."
        elif found.low > bound and p <= 1 - gate.confidence:
            verdict, text = "pass", f"{text}: above {limit}."
        elif found.low > bound:
            needed = max(needed, found.images + 1)
            text += f": too few images differ at all (permutation test: p = {p:.3f})."
        elif found.high <= bound:
            verdict, text = "fail", f"{text}: not above {limit}."
        else:
            text += f": the interval holds {limit}; "
            text += f"about {needed:,} images would decide." if needed else "no number of images would decide a zero."
        return replace(
            check,
            verdict=verdict,
            reason=text,
            estimate=found,
            p_value=p,
            p_mcnemar=mcnemar(column.values, column.images),
            detectable=detectable(found.error, gate.confidence),
            images_needed=needed or None,
        )

    def protected(self, rule: Protected, names: tuple[str, ...]) -> Check:
        """Non-inferiority to the base model, or at least no significant loss."""
        gate, bound = self.gate, -rule.margin
        name = names[0] if len(names) == 1 else f"{len(names)} benchmarks together"
        check, words = self._opened("protected", ("tuned", "base"), names, rule.metric, bound)
        column, missing = self.difference(names, ("base", "image"), rule.metric)
        if column is None:
            return replace(check, reason=f"protected {name}: {missing}")
        found = estimate(column.values, column.images, self.seed, self.replicates, gate.confidence)
        text = f"protected {name}, {words}: {describe(found, rule.metric)}"
        if not found.finite:
            return replace(check, reason=f"{text}: {_missing(found)}, so it cannot pass.", estimate=found)
        beyond = f" beyond {_points(rule.margin, rule.metric)} points" if rule.margin else ""
        low, needed = None, 0
        verdict: Verdict = "pass"
        if rule.rule == "no_significant_loss":
            text += f": no significant loss{beyond}."
        else:
            low = one_sided(column.values, column.images, self.seed, self.replicates, gate.confidence)
            error = (found.mean - low) / NormalDist().inv_cdf(gate.confidence)
            needed = images_needed(error, found.images, found.mean - bound, 2 * gate.confidence - 1)
            if found.images < gate.minimum_images:
                verdict, needed = "inconclusive", max(needed, gate.minimum_images)
                text += f": at least {gate.minimum_images} images are needed to decide."
            elif low > bound:
                text += f": no loss{beyond} (one-sided {_points(low, rule.metric, '+')})."
            else:
                verdict = "inconclusive"
                text += f": a loss{beyond} is not excluded (one-sided {_points(low, rule.metric, '+')}); "
                text += f"about {needed:,} images would decide." if needed else "no number of images would decide it."
        if found.high < bound:
            verdict, needed = "fail", 0
            text = f"protected {name}, {words}: {describe(found, rule.metric)}: a significant loss{beyond}."
        return replace(
            check,
            verdict=verdict,
            reason=text,
            estimate=found,
            low_one_sided=low,
            p_value=self.p_value(column, 0.0),
            p_mcnemar=mcnemar(column.values, column.images),
            detectable=detectable(found.error, gate.confidence),
            images_needed=needed or None,
        )

    def p_value(self, column: Column, bound: float) -> float:
        values = column.values
        if bound and values.ndim == 1:
            values = values - bound
        elif bound:  # a ratio of its own takes the bound off the sum; the other side has none of it
            shift = np.broadcast_to(np.array([-bound / 2, 1.0]), (len(values), 1, 2))
            half = values.shape[1] // 2
            values = np.concatenate([values[:, :half], shift, values[:, half:], shift], axis=1)
        return sign_flip(values, column.images, self.seed, self.replicates)

    def _opened(
        self, role: Role, sides: tuple[str, str], names: tuple[str, ...], metric: str, bound: float
    ) -> tuple[Check, str]:
        """A check that fails as long as nothing is known, and its comparison in words."""
        better = self.scores.higher_is_better(names, metric)
        comparison = " - ".join(sides if better is not False else sides[::-1])
        words = comparison if better is not False else f"{comparison} (less {metric} is better)"
        return Check(role, comparison, names, "fail", "", metric, better, scale(metric), bound), words

    def difference(self, names: Sequence[str], other: tuple[str, str], metric: str) -> tuple[Column | None, str]:
        """What tuned under the true image gains over `other` (model, condition): the difference, turned round where
        less is better. Or None and what is missing."""
        for model, condition in (("tuned", "image"), other):
            for name in names:
                if self.scores.column([name], model, condition, metric) is None:
                    return None, f"no {metric} of {name} by {model} under {condition!r}, so it cannot pass."
        if not names:
            return None, "no benchmark was scored, so it cannot pass."
        better = self.scores.higher_is_better(names, metric)
        if better is None:
            return None, f"more {metric} is neither better nor worse of all of these, so it cannot pass."
        ours, theirs = (self.scores.column(names, *side, metric) for side in (("tuned", "image"), other))
        return self.scores.difference(*(ours, theirs) if better else (theirs, ours)), ""

    def expand(self, benchmarks: Sequence[str]) -> tuple[str, ...]:
        return meant(benchmarks, self.scores.benchmarks)


def _points(value: float, metric: str, sign: str = "") -> str:
    """
    >>> _points(0.02, "accuracy"), _points(-0.0123, "accuracy", "+")
    ('2', '-1.2')
    """
    scaled = scale(metric) * value
    return f"{scaled:+.1f}" if sign else f"{scaled:g}"


def _improves(check: Check) -> float:
    """The p-value of an improvement: a loss, however certain, is none."""
    better = check.estimate is not None and check.estimate.mean > check.bound
    return check.p_value if better and check.p_value is not None else 1.0


def _missing(found: Estimate) -> str:
    return "one image has none" if found.images < 2 and math.isfinite(found.mean) else "not a number"


def _plain(value: Any) -> Any:
    """JSON has no NaN: null in its place."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
