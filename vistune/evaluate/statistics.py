"""Uncertainty of scores whose items share images: pure functions over (values, clusters).

Items of one image are not independent, so every interval here resamples images, and comparisons are made on the
per-item differences of the two sides (paired). Values are float64 (N,), clusters say which image each item is about.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from vistune.hashing import keyed

BLOCK = 4_000_000  # draws held at once


@dataclass(frozen=True)
class Estimate:
    """A mean over items with its uncertainty."""

    mean: float
    low: float  # ends of the two-sided interval
    high: float
    error: float  # standard error, clustered by image
    items: int
    images: int


def clustered_error(values: np.ndarray, clusters: Sequence[Hashable]) -> float:
    """Standard error of the mean when items of a cluster are correlated (Miller 2024, arXiv 2411.00640, eq. 4,
    with the finite-sample factor C / (C - 1)). Not a number with fewer than two clusters.

    Equal values within clusters carry the information of one item each:

    >>> values = np.array([0.0, 1.0, 0.0, 1.0])
    >>> one = clustered_error(values, [0, 1, 2, 3])
    >>> two = clustered_error(np.repeat(values, 2), [0, 0, 1, 1, 2, 2, 3, 3])
    >>> bool(np.isclose(one, two)), round(one, 4)
    (True, 0.2887)
    """
    sums, sizes = _by_cluster(values, clusters)
    count = len(sums)
    if count < 2:
        return math.nan
    spread = sums - sizes * values.mean()
    return float(np.sqrt((spread**2).sum() * count / (count - 1)) / len(values))


def estimate(
    values: np.ndarray,
    clusters: Sequence[Hashable],
    seed: int,
    replicates: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """Mean with a percentile interval of the cluster bootstrap: images are drawn with replacement and bring all their
    items. The draws depend on the seed and the number of images only, so columns over the same images share them."""
    sums, sizes = _by_cluster(values, clusters)
    mean = float(values.mean())
    error = clustered_error(values, clusters)
    if len(sums) < 2 or not np.isfinite(values).all():
        return Estimate(mean, math.nan, math.nan, error, len(values), len(sums))
    means = np.concatenate([(w @ sums) / (w @ sizes) for w in _draws(len(sums), seed, replicates)])
    # Drawing C of C images understates the variance by (C - 1) / C; widened here, visible only in small sets.
    means = mean + (means - mean) * math.sqrt(len(sums) / (len(sums) - 1))
    tail = (1 - confidence) / 2
    low, high = np.clip(np.quantile(means, [tail, 1 - tail]), values.min(), values.max())
    return Estimate(mean, float(low), float(high), error, len(values), len(sums))


def sign_flip(values: np.ndarray, clusters: Sequence[Hashable], seed: int, replicates: int = 2000) -> float:
    """Two-sided p-value of a mean difference of zero: the sign of each image's summed difference is flipped at random.

    >>> sign_flip(np.array([1.0, -1.0] * 10), list(range(20)), seed=0)
    1.0
    """
    sums, _ = _by_cluster(values, clusters)
    generator = np.random.Generator(np.random.PCG64(keyed(seed, "sign_flip", len(sums))))
    signs = generator.integers(0, 2, size=(replicates, len(sums)), dtype=np.int8) * 2 - 1
    extreme = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9
    return float((1 + extreme.sum()) / (1 + replicates))


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


def majority(gold: Sequence[str]) -> float:
    """Accuracy of always giving the most frequent gold answer: what a model that knows only the priors reaches.

    >>> majority(["yes", "no", "yes", "yes"])
    0.75
    """
    return max(gold.count(g) for g in set(gold)) / len(gold) if gold else math.nan


def _quantiles(confidence: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(power)


def _by_cluster(values: np.ndarray, clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each cluster, clusters in order of first appearance."""
    if len(values) != len(clusters) or not len(values):
        raise ValueError(f"{len(values)} values for {len(clusters)} cluster labels; expected the same number, not 0")
    numbers: dict[Any, int] = {}
    index = np.array([numbers.setdefault(c, len(numbers)) for c in clusters])
    return np.bincount(index, weights=values), np.bincount(index).astype(np.float64)


def _draws(clusters: int, seed: int, replicates: int) -> Iterator[np.ndarray]:
    """How often each cluster is drawn in each replicate: float64 (R, C), rows sum to C; in blocks of bounded size."""
    generator = np.random.Generator(np.random.PCG64(keyed(seed, "bootstrap", clusters)))
    share = np.full(clusters, 1.0 / clusters)
    block = max(BLOCK // clusters, 1)
    for start in range(0, replicates, block):
        yield generator.multinomial(clusters, share, size=min(block, replicates - start)).astype(np.float64)
