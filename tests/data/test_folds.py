"""Folds and standardised features."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from ptft.data.folds import standardize, stratified_folds


@pytest.mark.parametrize("counts", [(10, 10), (1, 2, 30), (7, 11, 5, 3)])
def test_folds_hold_equally_many_images_of_each_class_and_of_all(counts: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    folds = stratified_folds(labels, 5, seed=0)
    for members in (folds, *(folds[labels == label] for label in range(len(counts)))):
        sizes = np.bincount(members, minlength=5)
        assert sizes.sum() == len(members)
        assert np.ptp(sizes) <= 1


def test_folds_are_those_of_the_seed() -> None:
    labels = np.arange(60) % 3
    first, again, other = (stratified_folds(labels, 5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_standardized_features_are_scikit_learns_and_constant_columns_become_zero() -> None:
    rng = np.random.default_rng(0)
    train, others = rng.normal(3, 2, (40, 4)), rng.normal(0, 1, (7, 4))
    train[:, 2] = 1e6
    scaler = StandardScaler().fit(np.delete(train, 2, axis=1))
    found = standardize(train, others)
    for mine, rows in zip(found, (train, others), strict=True):
        assert np.delete(mine, 2, axis=1) == pytest.approx(scaler.transform(np.delete(rows, 2, axis=1)))
        assert not mine[:, 2].any()
