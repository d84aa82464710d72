"""Intervals checked by simulation with fixed seeds: they cover what they claim under clustering."""

import math

import numpy as np
import pytest

from vistune.evaluate.statistics import clustered_error, detectable, estimate, images_needed, majority, sign_flip

TRUTH = 0.6


def clustered(generator: np.random.Generator, images: int, spread: float) -> tuple[np.ndarray, list[int]]:
    """Right or wrong answers, 1-6 questions an image, images differ in difficulty (mean TRUTH)."""
    sizes = generator.integers(1, 7, size=images)
    level = np.clip(TRUTH + spread * generator.choice([-1.0, 1.0], size=images), 0, 1)
    values = np.concatenate([generator.random(n) < p for n, p in zip(sizes, level, strict=True)])
    return values.astype(np.float64), [n for n, size in enumerate(sizes) for _ in range(size)]


def test_interval_covers_the_truth_under_clustering() -> None:
    generator = np.random.default_rng(0)
    runs, hit, naive = 300, 0, 0
    for run in range(runs):
        values, images = clustered(generator, 60, 0.35)
        found = estimate(values, images, seed=run, replicates=400)
        hit += found.low <= TRUTH <= found.high
        naive += abs(found.mean - TRUTH) <= 1.96 * clustered_error(values, range(len(values)))
    assert 0.92 <= hit / runs <= 0.98
    assert naive / runs < 0.92, "treating questions of one image as independent is what this guards against"


def test_clustered_error_matches_the_spread_of_the_mean() -> None:
    generator = np.random.default_rng(1)
    draws = [clustered(generator, 80, 0.35) for _ in range(500)]
    spread = np.std([values.mean() for values, _ in draws])
    errors = np.mean([clustered_error(values, images) for values, images in draws])
    assert errors == pytest.approx(spread, rel=0.08)


def test_bootstrap_error_agrees_with_the_closed_form() -> None:
    values, images = clustered(np.random.default_rng(2), 100, 0.3)
    found = estimate(values, images, seed=0, replicates=4000)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(found.error, rel=0.06)
    assert found.error == clustered_error(values, images)
    assert (found.items, found.images) == (len(values), 100)


def test_pairing_narrows_the_interval() -> None:
    """Two models that mostly agree: the paired difference is far more certain than the two scores."""
    generator = np.random.default_rng(3)
    base, images = clustered(generator, 100, 0.3)
    tuned = np.where(generator.random(len(base)) < 0.1, 1.0, base)
    paired = estimate(tuned - base, images, seed=0)
    error = math.hypot(clustered_error(tuned, images), clustered_error(base, images))
    assert paired.high - paired.low < 0.6 * 2 * 1.96 * error
    assert paired.low > 0


def test_false_alarms_and_power_of_the_interval() -> None:
    generator = np.random.default_rng(4)
    runs, false, right = 300, 0, 0
    for run in range(runs):
        level, images = clustered(generator, 60, 0.3)
        noise = generator.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=len(level))
        false += estimate(noise, images, seed=run, replicates=300).low > 0
        right += estimate(noise + 0.2, images, seed=run, replicates=300).low > 0
    assert false / runs <= 0.05
    assert right / runs >= 0.95


def test_equal_seeds_give_equal_intervals_and_order_of_items_does_not_matter_within_images() -> None:
    values, images = clustered(np.random.default_rng(5), 30, 0.3)
    a, b = estimate(values, images, seed=7), estimate(values, images, seed=7)
    assert a == b
    assert a != estimate(values, images, seed=8)
    swapped = values.copy()
    first = [n for n, image in enumerate(images) if image == images[-1]]
    swapped[first] = values[first][::-1]
    assert estimate(swapped, images, seed=7) == a


def test_memory_is_bounded_without_changing_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values, images = clustered(np.random.default_rng(8), 30, 0.3)
    whole = estimate(values, images, seed=0, replicates=200)
    monkeypatch.setattr("vistune.evaluate.statistics.BLOCK", 70)
    assert estimate(values, images, seed=0, replicates=200) == whole


def test_degenerate_input_is_not_a_number_rather_than_certain() -> None:
    one = estimate(np.array([1.0, 1.0]), ["a", "a"], seed=0)
    assert math.isnan(one.low) and math.isnan(one.error) and one.mean == 1
    broken = estimate(np.array([1.0, math.nan, 0.0]), ["a", "b", "c"], seed=0)
    assert math.isnan(broken.low) and math.isnan(broken.high)
    with pytest.raises(ValueError, match="2 values for 1 cluster"):
        clustered_error(np.array([1.0, 0.0]), ["a"])


def test_sign_flip_is_uniform_under_the_null_and_small_under_an_effect() -> None:
    generator = np.random.default_rng(6)
    images = [n for n in range(40) for _ in range(3)]
    null = [sign_flip(generator.choice([-1.0, 0, 1.0], size=120), images, run, 300) for run in range(200)]
    assert 0.02 <= np.mean([p <= 0.05 for p in null]) <= 0.09
    assert sign_flip(generator.choice([-1.0, 0, 1.0, 1.0, 1.0], size=120), images, 0) < 0.01


def test_planned_size_gives_the_planned_power() -> None:
    generator = np.random.default_rng(7)
    sample = generator.choice([-1.0, 0.0, 1.0], p=[0.15, 0.6, 0.25], size=200)
    error = clustered_error(sample, list(range(200)))
    need = images_needed(error, 200, 0.1)
    assert detectable(error * math.sqrt(200 / need)) == pytest.approx(0.1, rel=0.01)
    samples = generator.choice([-1.0, 0.0, 1.0], p=[0.15, 0.6, 0.25], size=(200, need))
    found = [estimate(values, range(need), run, 300).low > 0 for run, values in enumerate(samples)]
    assert 0.7 <= np.mean(found) <= 0.92
    assert images_needed(error, 200, 0.0) == 0


def test_majority_of_nothing_is_not_a_number() -> None:
    assert math.isnan(majority([]))
    assert majority(["2", "1", "2"]) == pytest.approx(2 / 3)
