"""Linear probe: can a linear classifier on the features name images that it has not seen?"""

import numpy as np

from ptft.data.folds import standardize, stratified_folds

NUM_FOLDS = 5
# Of ridge, relative to the number of training images; standardised features make one range fit all.
PENALTIES = np.logspace(-4, 2, 13)


def probe_right(features: np.ndarray, labels: np.ndarray, *, seed: int, num_folds: int = NUM_FOLDS) -> np.ndarray:
    """Which images a ridge classifier names right that was fitted without their fold; bool (N,).

    Ridge regression on the one-hot labels (Hastie, Tibshirani, Friedman 2009, sections 3.4.1 and 4.2), features
    standardised and the penalty chosen within the training folds, so that nothing of a held-out image is known.

    Args:
        features: float (N, D).
        labels: int64 (N,), in [0, K); at least 2 images of some class.
        seed: of the folds; checkpoints to be compared need the same.
        num_folds: stratified.
    """
    folds = stratified_folds(labels, num_folds, seed)
    right = np.empty(len(labels), bool)
    for fold in np.unique(folds):
        held = folds == fold
        rows, others = standardize(features[~held].astype(np.float64), features[held].astype(np.float64))
        right[held] = _fit(rows, labels[~held], labels.max() + 1).predict(others) == labels[held]
    return right


class _Ridge:
    """Weights (D, K) and intercepts (K,)."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        self.weight, self.bias = weight, bias

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Class of each row, int64."""
        classes: np.ndarray = (rows @ self.weight + self.bias).argmax(axis=1)
        return classes


def _fit(rows: np.ndarray, labels: np.ndarray, num_classes: int) -> _Ridge:
    """Ridge with the penalty of the least squared error, each image left out of the fit.

    One decomposition rows = U S V' serves every penalty p: fits are U (S^2 / (S^2 + p)) U' Y, and leaving image i out
    changes its residual to residual_i / (1 - h_i), where h is the diagonal of the hat matrix with the intercept's
    1/n (Hastie et al. 2009, section 7.10.1: exact for ridge).
    """
    left, values, right = _decompose(rows)
    one_hot = np.eye(num_classes)[labels]
    bias = one_hot.mean(axis=0)
    centred = one_hot - bias
    projected = left.T @ centred
    errors = []
    for penalty in PENALTIES * len(rows):
        share = values**2 / (values**2 + penalty)
        leverage = (left**2) @ share + 1 / len(rows)
        residual = centred - left @ (share[:, None] * projected)
        errors.append(np.sum((residual / (1 - leverage)[:, None]) ** 2))
    penalty = PENALTIES[int(np.argmin(errors))] * len(rows)
    weight = right @ ((values / (values**2 + penalty))[:, None] * projected)
    return _Ridge(weight, bias)


def _decompose(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Singular vectors and values: left (n, r), values (r,), right (D, r), those that are zero left out.

    By the eigenvectors of the smaller of the two matrices of products, which takes a fraction of the time.
    """
    from scipy.linalg import eigh

    is_wide = rows.shape[1] > rows.shape[0]
    squares, vectors = eigh(rows @ rows.T if is_wide else rows.T @ rows)
    kept = squares > 1e-10 * max(squares[-1], 1e-30)
    values, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    others = (rows.T if is_wide else rows) @ vectors / values
    return (vectors, values, others) if is_wide else (others, values, vectors)
