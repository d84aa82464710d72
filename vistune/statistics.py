"""Uncertainty of scores whose items share images: pure functions over (values, clusters).

Items of one image are not independent, so every interval here resamples images, and comparisons are made on the same
items of both sides (paired). Clusters say which image each item is about; `values` are one of

    float64 (N,)       one number for each item; the score is their mean
    float64 (N, S, 2)  what each item adds to the numerators and denominators of S ratios; the score is the sum of the
                       ratios, one without a denominator counting 0

F1, MME's totals, circular accuracy, CIDEr with fixed weights, and a mean over parts are all sums of ratios, and so is
the difference of two of them: each replicate computes the score anew from the images it drew.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from vistune.hashing import keyed

Terms = dict[str, tuple[float, float]]
"""What an item adds: name of a ratio -> (numerator, denominator). The score is the sum of the ratios over all items."""

POINTS = {"perception": 1.0, "cognition": 1.0, "final_score": 1.0}
"""MME's and OCRBench's totals are told in their own points, everything else times 100."""

BLOCK = 4_000_000  # draws held at once


@dataclass(frozen=True)
class Estimate:
    """A score over items with its uncertainty."""

    mean: float
    low: float  # ends of the two-sided interval
    high: float
    error: float  # standard error, clustered by image
    items: int
    images: int

    @property
    def finite(self) -> bool:
        """Whether there is a score with an interval."""
        return all(math.isfinite(x) for x in (self.mean, self.low, self.high))


def score(values: np.ndarray) -> float:
    """The score that the items have together.

    >>> score(np.array([1.0, 0.0, 1.0, 1.0]))
    0.75
    >>> score(np.array([[[2.0, 2.0]], [[0.0, 1.0]]]))  # F1 of a hit and a miss: 2 TP / (said yes + is yes)
    0.6666666666666666
    """
    return float(values.mean()) if values.ndim == 1 else float(_ratios(values.sum(0)))


def subtract(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Values whose score is score(a) - score(b), item by item: (N,), or (N, 2 S, 2) with b's ratios negated."""
    if a.ndim == 1 and b.ndim == 1:
        return a - b
    return np.concatenate([_terms(a), _terms(b) * (-1.0, 1.0)], axis=1)


def clustered_error(values: np.ndarray, clusters: Sequence[Hashable]) -> float:
    """Standard error of the score when items of a cluster are correlated (Miller 2024, arXiv 2411.00640, eq. 4, with
    the finite-sample factor C / (C - 1)); of ratios by linearisation. Not a number with fewer than two clusters.

    Equal values within clusters carry the information of one item each:

    >>> values = np.array([0.0, 1.0, 0.0, 1.0])
    >>> one = clustered_error(values, [0, 1, 2, 3])
    >>> two = clustered_error(np.repeat(values, 2), [0, 0, 1, 1, 2, 2, 3, 3])
    >>> bool(np.isclose(one, two)), round(one, 4)
    (True, 0.2887)
    """
    sums = _by_cluster(_terms(values), clusters)
    count, totals = len(sums), sums.sum(0)
    if count < 2:
        return math.nan
    numerators, denominators = totals[:, 0], totals[:, 1]
    used = denominators != 0
    ratios = numerators[used] / denominators[used]
    spread = (sums[:, used, 0] - ratios * sums[:, used, 1]) / denominators[used]
    return float(np.sqrt((spread.sum(1) ** 2).sum() * count / (count - 1)))


def estimate(
    values: np.ndarray,
    clusters: Sequence[Hashable],
    seed: int,
    replicates: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """Score with a percentile interval of the cluster bootstrap: images are drawn with replacement and bring all their
    items. The draws depend on the seed and the number of images only, so columns over the same images share them.

    Percentiles of few images are too narrow: the interval is widened by sqrt(C / (C - 1)) and by Student's quantile
    over the normal one (Hesterberg 2015, doi 10.1080/00031305.2015.1089789).
    """
    sums = _by_cluster(_terms(values), clusters)
    mean, error, count = score(values), clustered_error(values, clusters), len(sums)
    if count < 2 or not np.isfinite(values).all():
        return Estimate(mean, math.nan, math.nan, error, len(values), count)
    flat = sums.reshape(count, -1)
    drawn = [_ratios((w @ flat).reshape(len(w), -1, 2)) for w in _draws(count, seed, replicates)]
    found = np.concatenate(drawn)
    tail = (1 - confidence) / 2
    wider = math.sqrt(count / (count - 1)) * student(1 - tail, count - 1) / NormalDist().inv_cdf(1 - tail)
    ends = mean + (np.quantile(found, [tail, 1 - tail]) - mean) * wider
    if values.ndim == 1:
        ends = np.clip(ends, values.min(), values.max())
    return Estimate(mean, float(ends[0]), float(ends[1]), error, len(values), count)


def one_sided(
    values: np.ndarray,
    clusters: Sequence[Hashable],
    seed: int,
    replicates: int = 2000,
    confidence: float = 0.95,
) -> float:
    """Lower end of the one-sided interval of a difference, for showing that no more than a margin is lost.

    Images that all agree would give an interval of no width and prove too much: 40 images without a loss are likely
    enough where one in 20 has one. So the interval is widened, in quadrature, by the share of images that may lose
    everything although none of this many did (the exact binomial bound, about 3 / C).

    >>> round(one_sided(np.zeros(60), range(60), seed=0), 4)
    -0.0487
    """
    found = estimate(values, clusters, seed, replicates, 2 * confidence - 1)
    if values.ndim == 1:
        reach = max(1.0, float(np.abs(values).max()))
    else:
        sides = values.reshape(len(values), 2, -1, 2)  # either may hold the most that an item can have
        whole = np.divide(sides[..., 0], sides[..., 1], out=np.zeros(sides.shape[:3]), where=sides[..., 1] != 0)
        reach = max(1.0, float(np.abs(whole).max((0, 1)).sum()))
    unseen = reach * (1 - (1 - confidence) ** (1 / found.images))
    return found.mean - math.hypot(found.mean - found.low, unseen)


def sign_flip(values: np.ndarray, clusters: Sequence[Hashable], seed: int, replicates: int = 2000) -> float:
    """Two-sided p-value of a difference (see `subtract`) of zero: for each image at random the two sides change places.

    >>> sign_flip(np.array([1.0, -1.0] * 10), list(range(20)), seed=0)
    1.0
    """
    if not np.isfinite(values).all():
        return math.nan
    sums = _by_cluster(_terms(values), clusters)
    if values.ndim == 1:
        numerators = sums[:, 0, 0]
        drawn = [np.abs((2.0 * kept - 1) @ numerators) for kept in _coins(len(sums), seed, replicates)]
        return _share(np.concatenate(drawn), abs(float(numerators.sum())))
    # Where the sides change places, a's ratios take b's terms and the other way round; negated numerators change sign.
    half = sums.shape[1] // 2
    other = np.concatenate([sums[:, half:], sums[:, :half]], axis=1) * (-1.0, 1.0)
    flat, swapped = sums.reshape(len(sums), -1), other.reshape(len(sums), -1)
    totals = [kept @ flat + (1 - kept) @ swapped for kept in _coins(len(sums), seed, replicates)]
    return _share(np.abs(_ratios(np.concatenate(totals).reshape(replicates, -1, 2))), abs(score(values)))


def mcnemar(values: np.ndarray, clusters: Sequence[Hashable]) -> float | None:
    """Two-sided p-value of McNemar's exact test on differences of right and wrong; None where it does not apply: when
    an image has several items, or differences are other than -1, 0 and 1.

    >>> mcnemar(np.array([1.0] * 8 + [-1.0] * 2 + [0.0] * 5), list(range(15)))
    0.109375
    """
    if values.ndim != 1 or len(set(clusters)) < len(values) or not np.isin(values, (-1.0, 0.0, 1.0)).all():
        return None
    won, lost = int((values > 0).sum()), int((values < 0).sum())
    count, term, tail = won + lost, 1, 0
    for k in range(min(won, lost) + 1):
        tail += term
        term = term * (count - k) // (k + 1)
    return min(1.0, tail * 2 / 2**count)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted for their number (Holm 1979): those below alpha hold together with error alpha.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted, least = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda entry: (entry[1], entry[0]))):
        least = max(least, min(1.0, p * (len(p_values) - rank)))
        adjusted[name] = least
    return adjusted


def detectable(error: float, confidence: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference that a test with this standard error finds with probability `power`.

    >>> round(detectable(0.01), 4)
    0.028
    """
    return _quantiles(confidence, power) * error


def images_needed(error: float, images: int, difference: float, confidence: float = 0.95, power: float = 0.8) -> int:
    """How many images like these would decide a true difference of this size (the error shrinks with their root).

    >>> images_needed(0.05, 100, 0.05)
    785
    """
    if difference == 0 or not math.isfinite(difference) or not math.isfinite(error):
        return 0
    return math.ceil(images * (_quantiles(confidence, power) * error / difference) ** 2)


def planned_error(sizes: Sequence[int], discordance: float, correlation: float) -> float:
    """Standard error of a paired difference before anything is measured: items on each image, the share of items that
    one side gets right and the other wrong, and how far such items of one image agree (0 to 1).

    >>> round(planned_error([1] * 100, 0.1, 0.2), 4), round(planned_error([10] * 10, 0.1, 0.2), 4)
    (0.0316, 0.0529)
    """
    items = sum(sizes)
    effect = 1 + (sum(size * size for size in sizes) / items - 1) * correlation
    return math.sqrt(discordance / items * effect)


def majority(gold: Sequence[str]) -> float:
    """Accuracy of always giving the most frequent gold answer: what a model that knows only the priors reaches.

    >>> majority(["yes", "no", "yes", "yes"])
    0.75
    """
    return max(gold.count(g) for g in set(gold)) / len(gold) if gold else math.nan


def sensitivity(scores: Mapping[str, Sequence[float]]) -> float:
    """MultiInstruct (arXiv 2212.10773): mean over tasks of standard deviation over mean of the scores under each
    wording of the instruction. Tasks with one wording, or a mean of 0, say nothing and are left out; NaN when none is
    left.

    >>> sensitivity({"a": [0.5, 0.5], "b": [0.4, 0.6], "c": [0.7]})
    0.1
    """
    known = [np.asarray(found) for found in scores.values() if len(found) > 1 and sum(found) > 0]
    return round(float(np.mean([found.std() / found.mean() for found in known])), 12) if known else math.nan


def student(p: float, freedom: float) -> float:
    """Quantile of Student's t from the normal one (Hill's expansion): within 0.2 % from 5 degrees of freedom on.

    >>> round(student(0.975, 10), 3), round(student(0.975, 1e9), 3)
    (2.228, 1.96)
    """
    z = NormalDist().inv_cdf(p)
    first, second = z**3 + z, 5 * z**5 + 16 * z**3 + 3 * z
    third = 3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z
    return z + first / (4 * freedom) + second / (96 * freedom**2) + third / (384 * freedom**3)


def _quantiles(confidence: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(power)


def _share(found: np.ndarray, seen: float) -> float:
    """Share of the replicates at least as extreme as what was seen, which is one of them."""
    return float((1 + (found >= seen - 1e-9).sum()) / (1 + len(found)))


def _terms(values: np.ndarray) -> np.ndarray:
    """Values as terms of ratios: float64 (N, S, 2)."""
    return np.stack([values, np.ones_like(values)], axis=-1)[:, None] if values.ndim == 1 else values


def _ratios(sums: np.ndarray) -> np.ndarray:
    """(..., S, 2) -> (...)"""
    numerators, denominators = sums[..., 0], sums[..., 1]
    return np.divide(numerators, denominators, out=np.zeros_like(numerators), where=denominators != 0).sum(-1)


def _by_cluster(terms: np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    """Sums of the terms of each cluster, clusters in order of first appearance: float64 (C, S, 2)."""
    if len(terms) != len(clusters) or not len(terms):
        raise ValueError(f"{len(terms)} values for {len(clusters)} cluster labels; expected the same number, not 0")
    numbers: dict[Any, int] = {}
    index = np.array([numbers.setdefault(c, len(numbers)) for c in clusters])
    sums = np.zeros((len(numbers), *terms.shape[1:]))
    np.add.at(sums, index, terms)
    return sums


def _draws(clusters: int, seed: int, replicates: int) -> Iterator[np.ndarray]:
    """How often each cluster is drawn in each replicate: float64 (R, C), rows sum to C; in blocks of bounded size."""
    generator = np.random.Generator(np.random.PCG64(keyed(seed, "bootstrap", clusters)))
    block = max(BLOCK // clusters, 1)
    for start in range(0, replicates, block):
        rows = min(block, replicates - start)
        drawn = generator.integers(0, clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(np.float64)


def _coins(clusters: int, seed: int, replicates: int) -> Iterator[np.ndarray]:
    """A fair coin for each cluster in each replicate: float64 (R, C) of 0 and 1; in blocks of bounded size."""
    generator = np.random.Generator(np.random.PCG64(keyed(seed, "sign_flip", clusters)))
    block = max(BLOCK // clusters, 1)
    for start in range(0, replicates, block):
        yield generator.integers(0, 2, size=(min(block, replicates - start), clusters)).astype(np.float64)


def scale(metric: str) -> float:
    """What a score times this is in points.

    >>> scale("accuracy"), scale("perception")
    (100.0, 1.0)
    """
    return POINTS.get(metric, 100.0)


def describe(found: Estimate, metric: str = "accuracy") -> str:
    """A difference in words.

    >>> describe(Estimate(0.05, 0.01, 0.09, 0.02, 400, 100))
    '+5.0 points [+1.0, +9.0] on 400 questions about 100 images'
    """
    times = scale(metric)
    ends = f" [{times * found.low:+.1f}, {times * found.high:+.1f}]" if found.finite else " without an interval"
    questions = f"{found.items:,} question{'s' * (found.items != 1)}"
    return (
        f"{times * found.mean:+.1f} points{ends} on {questions} about {found.images:,} image{'s' * (found.images != 1)}"
    )
