"""Intervals over seeds and images: their width against known cases, and what they cover."""

import numpy as np
import pytest
from scipy.stats import bootstrap, norm, ttest_1samp

from ptft.proof.paired import OF_ACCURACY, OF_DIFFERENCE, mean_interval, paired_difference
from ptft.proof.spread import holm, resampled_means, spread_of


def simulate(rng: np.random.Generator, seeds: int, images: int, effect: float, of_seeds: float) -> np.ndarray:
    """Differences -1, 0, 1 of two arms on shared test images, each seed better or worse by chance."""
    difficulty = rng.beta(2, 1, images)
    arms = [
        rng.random((seeds, images)) < np.clip(difficulty + shift + rng.normal(0, of_seeds, (seeds, 1)), 0, 1)
        for shift in (0.0, effect)
    ]
    return arms[1] * 1.0 - arms[0]


def images_alone(values: np.ndarray) -> tuple[float, float]:
    """scipy's bootstrap of (N,) values, each of an image of its own."""
    interval = bootstrap((values,), np.mean, n_resamples=1000, batch=100, method="percentile", rng=1)
    return tuple(interval.confidence_interval)


def test_where_every_image_is_alike_it_is_students_interval() -> None:
    seeds = [0.02, 0.05, -0.01, 0.04]
    found = spread_of(np.repeat(np.array(seeds)[:, None], 7, axis=1))
    expected = paired_difference([0.0] * 4, seeds)
    assert found.mean == pytest.approx(expected.mean)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.003)
    t, p_value = ttest_1samp(seeds, 0.0)
    assert found.p_value == pytest.approx(p_value, abs=0.01)
    assert found.p_value_of_many == pytest.approx(2 * norm.sf(t), abs=0.01)


def test_where_every_seed_is_alike_it_is_the_bootstrap_of_the_images() -> None:
    row = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 400, p=[0.1, 0.7, 0.2])
    found = spread_of(np.tile(row, (5, 1)))
    assert (found.low, found.high) == pytest.approx(images_alone(row), abs=0.004)
    assert found.p_value_of_many == found.p_value


@pytest.mark.parametrize(("seeds", "of_seeds"), [(3, 0.04), (5, 0.04), (5, 0.0)])
def test_equal_arms_seem_different_in_at_most_one_of_twenty(seeds: int, of_seeds: float) -> None:
    rng = np.random.default_rng(seeds)
    found = [spread_of(simulate(rng, seeds, 300, 0.0, of_seeds)) for _ in range(60)]
    wrong = sum(spread.p_value is not None and spread.p_value <= 0.05 for spread in found)
    assert wrong <= 6  # 3 expected at most; 7 or more come once in 30 even then


def test_pooling_the_images_of_all_seeds_would_seem_different_far_too_often() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(50):
        differences = simulate(rng, 5, 300, 0.0, 0.04).ravel()
        low, high = images_alone(differences)
        wrong += low > 0 or high < 0
    assert wrong > 10


def test_a_real_difference_is_seen() -> None:
    rng = np.random.default_rng(1)
    found = [spread_of(simulate(rng, 5, 300, 0.12, 0.03)) for _ in range(20)]
    assert sum(spread.low is not None and spread.low > 0 for spread in found) > 16


def test_one_seed_has_no_interval() -> None:
    found = spread_of(np.array([[0.0, 1.0, 1.0]]))
    assert (found.low, found.high, found.p_value) == (None, None, None)
    assert found.interval("+.1f") == ""


def test_no_difference_at_all_has_p_value_1() -> None:
    found = spread_of(np.zeros((4, 50)))
    assert (found.mean, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_an_interval_ends_where_no_accuracy_or_difference_can_lie_and_its_p_value_stays() -> None:
    values = np.repeat(np.array([[0.25], [0.5]]), 8, axis=1)
    accuracy, difference = spread_of(values, OF_ACCURACY), spread_of(-values)
    assert (accuracy.low, accuracy.high) == (0.0, 1.0)
    assert (difference.low, difference.high) == (-1.0, 1.0)
    assert accuracy.p_value == pytest.approx(difference.p_value, abs=0.02)
    assert spread_of(values, (-9.0, 9.0)).p_value == accuracy.p_value


def test_students_interval_ends_at_its_bounds() -> None:
    assert mean_interval([0.2, 0.9], bounds=OF_ACCURACY)[1:] == (0.0, 1.0)
    assert mean_interval([0.2, 0.9])[1] < 0.0
    bounded = paired_difference([0.0, 0.0], [0.2, 0.9], bounds=OF_DIFFERENCE)
    assert (bounded.low, bounded.high) == (-1.0, 1.0)
    assert bounded.verdict == paired_difference([0.0, 0.0], [0.2, 0.9]).verdict == "within noise"


def test_holm_steps_down_until_one_fails() -> None:
    # 0.01 <= 0.05/4; 0.015 <= 0.05/3; 0.03 > 0.05/2 ends it, although 0.04 <= 0.05.
    assert holm([0.04, 0.01, 0.03, 0.015]) == [False, True, False, True]
    assert holm([0.04]) == [True]
    assert holm([0.04, 0.9]) == [False, False]


def test_resampled_means_have_the_spread_of_drawing_values() -> None:
    values = np.repeat([0.0, 1.0, 3.0], [50, 30, 20])
    counted = resampled_means(values, seed=0, num_resamples=50_000)
    drawn = np.random.default_rng(1).choice(values, (50_000, 100)).mean(axis=1)
    assert counted.mean() == pytest.approx(drawn.mean(), abs=3e-3)
    assert np.quantile(counted, [0.01, 0.2, 0.8, 0.99]) == pytest.approx(
        np.quantile(drawn, [0.01, 0.2, 0.8, 0.99]), abs=0.015
    )
