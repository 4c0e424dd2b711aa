"""Which images are held out together: folds, and standardising by the others of them."""

import numpy as np


def stratified_folds(labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """A fold in [0, num_folds) for each image, int64 (N,); sizes differ by at most one, within a class too.

    Args:
        labels: int64 (N,); of images with several classes, or numbers, (N, K): these are dealt out as they come.
        num_folds: at least 2.
        seed: which images of a class go together.
    """
    labels = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[by_class] = np.arange(len(labels)) % num_folds
    return folds


def standardize(train: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both float (·, D) with the mean and standard deviation of each of train's columns made 0 and 1.

    A column that is the same for all of train says nothing and becomes 0 for all.
    """
    mean, std = train.mean(axis=0), train.std(axis=0)
    weight = np.divide(1, std, out=np.zeros_like(std), where=std > 1e-6 * np.abs(mean))
    return (train - mean) * weight, (others - mean) * weight
