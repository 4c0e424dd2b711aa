"""The cross-validated probe against scikit-learn's ridge, whose penalty is chosen by leaving one out."""

import numpy as np
import pytest
from making_features import make_features
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ptft.data.folds import stratified_folds
from ptft.proof.scores.probe import PENALTIES, probe_right


def reference(features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    folds = stratified_folds(labels, 5, seed)
    right = np.empty(len(labels), bool)
    for fold in range(5):
        train = folds != fold
        ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES * train.sum()))
        ridge.fit(features[train], np.eye(labels.max() + 1)[labels[train]])
        right[~train] = ridge.predict(features[~train]).argmax(axis=1) == labels[~train]
    return right


@pytest.mark.parametrize(("num_images", "num_dims"), [(150, 8), (60, 200), (90, 70)])
@pytest.mark.parametrize("signal", [0.3, 2.0])
def test_the_probe_is_scikit_learns_ridge_with_fewer_and_with_more_features_than_images(
    num_images: int, num_dims: int, signal: float
) -> None:
    features, labels = make_features(num_images, num_dims, 4, signal)
    assert np.array_equal(probe_right(features, labels, seed=3), reference(features, labels, seed=3))


def test_features_in_float32_with_dead_and_doubled_columns_are_as_good_as_without_them() -> None:
    features, labels = make_features(200, 6, signal=2.0)
    more = np.concatenate([features, np.zeros((200, 3)), features[:, :2]], axis=1).astype(np.float32)
    assert probe_right(more, labels, seed=0).mean() == pytest.approx(
        probe_right(features, labels, seed=0).mean(), abs=0.03
    )


def test_labels_that_have_nothing_to_do_with_the_features_are_right_by_chance() -> None:
    shares = [
        probe_right(*make_features(200, num_dims, 4, signal=0.0, seed=seed), seed=seed).mean()
        for seed in range(5)
        for num_dims in (10, 300)
    ]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.04)
    assert probe_right(*make_features(200, 10, 4, signal=5.0), seed=0).mean() > 0.95


def test_features_that_are_all_the_same_name_the_commonest_class() -> None:
    labels = np.array([0] * 10 + [1] * 30)
    assert probe_right(np.ones((40, 5)), labels, seed=0).tolist() == (labels == 1).tolist()
