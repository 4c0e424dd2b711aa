"""LogME against the density of the labels themselves, maximised by another method."""

import numpy as np
import pytest
from making_features import make_features
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from ptft.proof.scores.evidence import evidence


def naive(features: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The labels y of a class are normal with mean 0 and covariance I/b + F F'/a: no posterior, no fixed point.

    What an image adds is the density of all labels less that of the others, at the same a and b.
    """
    count = len(labels)
    products = features @ features.T
    totals, parts = [], np.zeros(count)
    for label in range(labels.max() + 1):
        y = (labels == label).astype(float)

        def density(logs: np.ndarray, rows: np.ndarray, y: np.ndarray = y) -> float:
            covariance = np.eye(count) / np.exp(logs[1]) + products / np.exp(logs[0])
            covariance = covariance[np.ix_(rows, rows)]
            return float(multivariate_normal.logpdf(y[rows], np.zeros(len(rows)), covariance))

        found = [
            minimize(
                lambda logs: -density(logs, np.arange(count)), start, method="Nelder-Mead", options={"xatol": 1e-6}
            )
            for start in ([0, 0], [4, 3])
        ]
        best = min(found, key=lambda one: one.fun)
        totals.append(-best.fun)
        parts += [-best.fun - density(best.x, np.delete(np.arange(count), index)) for index in range(count)]
    return float(np.mean(totals) / count), parts / (labels.max() + 1)


@pytest.mark.parametrize(("num_images", "num_dims"), [(40, 5), (30, 60)])
@pytest.mark.parametrize("signal", [1.0, 3.0])
def test_the_evidence_and_what_each_image_adds_are_those_of_the_density_of_the_labels(
    num_images: int, num_dims: int, signal: float
) -> None:
    features, labels = make_features(num_images, num_dims, signal=signal)
    found = evidence(features, labels)
    logme, parts = naive(features, labels)
    assert found.logme == pytest.approx(logme, abs=2e-4)
    assert found.of_images.mean() == pytest.approx(found.logme)
    assert found.of_images - found.of_images.mean() == pytest.approx(parts - parts.mean(), abs=5e-3)


def test_differences_spread_over_samples_as_the_images_of_one_sample_say() -> None:
    """Two sets of features of the same images, one with more noise: the error of their difference in LogME."""
    differences, errors = [], []
    rng = np.random.default_rng(0)
    for seed in range(150):
        labels = np.random.default_rng(seed).integers(0, 3, 150)
        features = np.eye(3, 8)[labels] * 2 + rng.normal(0, 1, (150, 8))
        first, second = (evidence(rows, labels) for rows in (features + rng.normal(0, 1, features.shape), features))
        parts = second.of_images - first.of_images
        differences.append(second.logme - first.logme)
        errors.append(parts.std(ddof=1) / 150**0.5)
    assert np.std(differences) == pytest.approx(np.mean(errors), rel=0.15)
    # Unpaired, the error would be another.
    assert np.std(differences) < 0.9 * np.hypot(first.of_images.std(), second.of_images.std()) / 150**0.5


def test_the_evidence_of_float32_features_with_dead_columns_is_that_without_them() -> None:
    features, labels = make_features(80, 6)
    dead = np.concatenate([features, np.zeros((80, 4))], axis=1).astype(np.float32)
    assert evidence(dead, labels).logme == pytest.approx(evidence(features, labels).logme, abs=1e-4)


def test_the_evidence_rises_with_what_the_features_tell() -> None:
    found = [evidence(*make_features(100, 10, signal=signal)).logme for signal in (0.0, 1.0, 2.0, 4.0)]
    assert found == sorted(found)


@pytest.mark.parametrize("features", [np.ones((10, 3)), np.zeros((10, 3)), np.eye(10)])
def test_features_that_say_nothing_or_all_have_a_finite_evidence(features: np.ndarray) -> None:
    found = evidence(features, np.arange(10) % 2)
    assert np.isfinite(found.logme)
    assert np.isfinite(found.of_images).all()
