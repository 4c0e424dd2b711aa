"""The cross-validated probe against scikit-learn's ridge, whose penalty is chosen by leaving one out."""

import numpy as np
import pytest
from making_features import make_features
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ptft.data.folds import stratified_folds
from ptft.proof.scores.probe import PENALTIES, probe


def reference(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    folds = stratified_folds(labels, 5, seed)
    one_hot = np.eye(labels.max() + 1)[labels]
    answers = np.empty(one_hot.shape)
    for fold in range(5):
        train = folds != fold
        ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES * train.sum()))
        seen = features[train]
        others = np.clip(features[~train], seen.min(axis=0), seen.max(axis=0))
        answers[~train] = ridge.fit(seen, one_hot[train]).predict(others)
    return np.sum((answers - one_hot) ** 2, axis=1), answers.argmax(axis=1) == labels


@pytest.mark.parametrize(("num_images", "num_dims"), [(150, 8), (60, 200), (90, 70)])
@pytest.mark.parametrize("signal", [0.3, 2.0])
def test_the_probe_is_scikit_learns_ridge_over_four_foldings(num_images: int, num_dims: int, signal: float) -> None:
    features, labels = make_features(num_images, num_dims, 4, signal)
    found = probe(features, labels, seed=3)
    errors, right = zip(*(reference(features, labels, seed) for seed in (3, 4, 5, 6)), strict=True)
    assert found.errors == pytest.approx(np.mean(errors, axis=0), abs=1e-6)
    assert found.right == pytest.approx(np.mean(right, axis=0))
    assert (found.error, found.top1) == pytest.approx((np.mean(errors), np.mean(right)))


@pytest.mark.parametrize("num_images", [1500, 2100])
def test_many_images_are_asked_once(num_images: int) -> None:
    features, labels = make_features(num_images, 5, 4)
    errors, right = reference(features, labels, 3)
    found = probe(features, labels, seed=3)
    assert found.errors == pytest.approx(errors, abs=1e-6)
    assert np.array_equal(found.right, right)


def test_features_in_float32_with_dead_and_doubled_columns_are_as_good_as_without_them() -> None:
    features, labels = make_features(200, 6, signal=2.0)
    more = np.concatenate([features, np.zeros((200, 3)), features[:, :2]], axis=1).astype(np.float32)
    found, expected = probe(more, labels, seed=0), probe(features, labels, seed=0)
    assert (found.error, found.top1) == pytest.approx((expected.error, expected.top1), abs=0.03)


def test_a_unit_that_hardly_ever_fires_does_not_decide() -> None:
    features, labels = make_features(200, 20, 4, signal=2.0)
    rare = np.zeros((200, 1))
    rare[[5, 60, 130], 0] = (1.0, 0.1, 0.01)
    found, without = probe(np.concatenate([features, rare], axis=1), labels, seed=0), probe(features, labels, seed=0)
    assert found.error == pytest.approx(without.error, abs=0.05)


def test_labels_that_have_nothing_to_do_with_the_features_are_right_by_chance() -> None:
    shares = [
        probe(*make_features(200, num_dims, 4, signal=0.0, seed=seed), seed=seed).top1
        for seed in range(5)
        for num_dims in (10, 300)
    ]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.04)
    assert probe(*make_features(200, 10, 4, signal=5.0), seed=0).top1 > 0.95


@pytest.mark.parametrize("num_dims", [100, 300])
def test_of_many_features_that_tell_nothing_the_answer_is_how_frequent_each_class_is(num_dims: int) -> None:
    """Its squared error is 3/4; a penalty too small for them would follow the noise."""
    features, labels = make_features(120, num_dims, 4, signal=0.0)
    assert probe(features, labels, seed=0).error == pytest.approx(0.75, abs=0.03)


def test_features_that_are_all_the_same_name_the_commonest_class() -> None:
    labels = np.array([0] * 10 + [1] * 30)
    assert probe(np.ones((40, 5)), labels, seed=0).right.tolist() == (labels == 1).tolist()
