"""The paired bootstrap against scipy's, and against the truth it must cover."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from ptft.proof.bootstrap import paired_bootstrap, resampled_means


def arms(kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    if kind == "right or wrong":
        return rng.random(count) < 0.7, rng.random(count) < 0.85
    return rng.normal(0, 1, count), rng.exponential(1, count) ** 2


@pytest.mark.parametrize("kind", ["right or wrong", "skewed"])
@pytest.mark.parametrize("count", [25, 400])
def test_the_interval_is_scipys_bca(kind: str, count: int) -> None:
    first, second = arms(kind, count)
    found = paired_bootstrap(first, second, seed=0, num_resamples=40_000)
    differences = np.subtract(second, first, dtype=float)
    expected = bootstrap((differences,), np.mean, n_resamples=40_000, batch=1000, method="BCa", rng=1)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found.mean == pytest.approx(differences.mean())
    # Right and wrong have means on a grid of 1/count: an end may fall on the next point of it.
    tolerance = 0.02 * width + (1 / count if kind == "right or wrong" else 0)
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=tolerance)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=tolerance)
    assert found.num_pairs == count


def test_resampled_means_have_the_spread_of_drawing_values() -> None:
    values = np.repeat([0.0, 1.0, 3.0], [50, 30, 20])
    counted = resampled_means(values, seed=0, num_resamples=50_000)
    drawn = np.random.default_rng(1).choice(values, (50_000, 100)).mean(axis=1)
    assert counted.mean() == pytest.approx(drawn.mean(), abs=3e-3)
    assert np.quantile(counted, [0.01, 0.2, 0.8, 0.99]) == pytest.approx(
        np.quantile(drawn, [0.01, 0.2, 0.8, 0.99]), abs=0.015
    )


def test_the_interval_covers_the_truth_about_as_often_as_it_says_and_a_narrower_one_less_often() -> None:
    rng = np.random.default_rng(0)
    covered = {0.95: 0, 0.5: 0}
    for trial in range(400):
        first, second = rng.random(150) < 0.6, rng.random(150) < 0.75
        for confidence in covered:
            found = paired_bootstrap(first, second, seed=trial, num_resamples=1000, confidence=confidence)
            covered[confidence] += found.low <= 0.15 <= found.high
    assert 0.92 < covered[0.95] / 400 < 0.98
    assert 0.42 < covered[0.5] / 400 < 0.60


def test_equal_arms_are_within_noise_and_a_clear_winner_is_not() -> None:
    right = np.arange(200) % 3 > 0
    assert paired_bootstrap(right, right, seed=0).verdict == "within noise"
    assert paired_bootstrap(right, np.ones(200), seed=0).verdict == "helped"
    assert paired_bootstrap(np.ones(200), right, seed=0).verdict == "hurt"


def test_as_many_means_are_drawn_as_asked_for_however_many_values_differ() -> None:
    values = np.random.default_rng(0).normal(3.0, 1.0, 300)
    means = resampled_means(values, seed=0, num_resamples=10_000)
    assert means.shape == (10_000,)
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.std() == pytest.approx(values.std() / 300**0.5, rel=0.05)


def test_the_same_seed_gives_the_same_interval_and_another_one_not() -> None:
    first, second = arms("skewed", 60)
    found = [paired_bootstrap(first, second, seed=seed, num_resamples=500) for seed in (3, 3, 4)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("first", "second"), [([1.0], [2.0]), ([1.0, 2.0], [1.0, 2.0, 3.0]), ([0.0, 1.0], [0.0, float("nan")])]
)
def test_arms_that_are_no_pairs_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="needs"):
        paired_bootstrap(first, second, seed=0)
