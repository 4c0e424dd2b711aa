"""LogME against the density of the labels themselves, maximised by another method."""

import numpy as np
import pytest
from making_features import make_features
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from ptft.proof.scores.evidence import logme


def naive(features: np.ndarray, labels: np.ndarray) -> float:
    """The labels y of a class are normal with mean 0 and covariance I/b + F F'/a: no posterior, no fixed point."""
    count = len(labels)
    products = features @ features.T
    evidences = []
    for label in range(labels.max() + 1):
        y = (labels == label).astype(float)

        def loss(logs: np.ndarray, y: np.ndarray = y) -> float:
            covariance = np.eye(count) / np.exp(logs[1]) + products / np.exp(logs[0])
            return -float(multivariate_normal.logpdf(y, np.zeros(count), covariance))

        found = [minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-6}) for start in ([0, 0], [4, 3])]
        evidences.append(-min(one.fun for one in found))
    return float(np.mean(evidences) / count)


@pytest.mark.parametrize(("num_images", "num_dims"), [(40, 5), (30, 60)])
@pytest.mark.parametrize("signal", [1.0, 3.0])
def test_the_evidence_is_the_highest_density_of_the_labels(num_images: int, num_dims: int, signal: float) -> None:
    features, labels = make_features(num_images, num_dims, signal=signal)
    assert logme(features, labels) == pytest.approx(naive(features, labels), abs=2e-4)


def test_the_evidence_of_float32_features_with_dead_columns_is_that_without_them() -> None:
    features, labels = make_features(80, 6)
    dead = np.concatenate([features, np.zeros((80, 4))], axis=1).astype(np.float32)
    assert logme(dead, labels) == pytest.approx(logme(features, labels), abs=1e-4)


def test_the_evidence_does_not_depend_on_the_scale_of_the_features() -> None:
    features, labels = make_features(80, 10, 3, signal=1.0)
    expected = logme(features, labels)
    for factor in (1e-7, 1e5):
        assert logme(factor * features, labels) == pytest.approx(expected, rel=1e-6)


def test_the_evidence_rises_with_what_the_features_tell() -> None:
    found = [logme(*make_features(100, 10, signal=signal)) for signal in (0.0, 1.0, 2.0, 4.0)]
    assert found == sorted(found)
    assert np.isfinite(logme(np.ones((10, 3)), np.arange(10) % 2))
    assert np.isfinite(logme(np.zeros((10, 3)), np.arange(10) % 2))
