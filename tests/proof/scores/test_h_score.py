"""The H-score against scikit-learn's shrunk covariance."""

import numpy as np
import pytest
from making_features import make_features
from sklearn.covariance import ledoit_wolf

from ptft.proof.scores.h_score import h_score


@pytest.mark.parametrize(("num_images", "num_dims"), [(150, 8), (40, 90)])
def test_the_score_is_the_trace_of_the_formula(num_images: int, num_dims: int) -> None:
    features, labels = make_features(num_images, num_dims, 4)
    shrunk, weight = ledoit_wolf(features)
    means = np.stack([features[labels == label].mean(axis=0) for label in range(4)])[labels]
    between = np.cov(means.T, bias=True)
    expected = (1 - weight) * np.trace(np.linalg.inv(shrunk) @ between)
    assert 0 < weight < 1
    assert h_score(features, labels) == pytest.approx(expected, rel=1e-6)


def test_the_score_rises_with_what_the_features_tell_up_to_one_less_than_the_classes() -> None:
    found = [h_score(*make_features(300, 10, 4, signal=signal)) for signal in (0.0, 1.0, 3.0, 30.0)]
    assert found == sorted(found)
    assert 2.5 < found[-1] <= 3
    assert h_score(np.ones((10, 3)), np.arange(10) % 2) == 0
    rounded = np.full((10, 3), 0.1, np.float32) * np.array([1, 2, 3.3])
    assert h_score(rounded, np.arange(10) % 2) == 0


def test_one_feature_is_not_shrunk() -> None:
    labels = np.arange(20) % 2
    assert h_score((2.0 * labels - 1)[:, None], labels) == pytest.approx(1.0)


def test_a_class_without_images_changes_nothing() -> None:
    features, labels = make_features(60, 5, 3)
    assert h_score(features, 2 * labels) == pytest.approx(h_score(features, labels))


def test_a_column_that_is_always_0_says_nothing_where_nothing_is_shrunk() -> None:
    labels = np.arange(20) % 2
    features = np.stack([2.0 * labels - 1, np.zeros(20)], axis=1)
    assert h_score(features, labels) == pytest.approx(1.0)
