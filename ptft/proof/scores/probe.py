"""Linear probe: can a linear classifier on the features name images that it has not seen?"""

from dataclasses import dataclass

import numpy as np

from ptft.data.folds import standardize, stratified_folds

NUM_FOLDS = 5
# Of ridge, relative to the number of training images; standardised features make one range fit all.
PENALTIES = np.logspace(-4, 2, 13)
# Few images are asked more than once, each time with other folds: which ones go together matters then.
_MOST_ASKED = 2_000
_MOST_ROUNDS = 4


@dataclass(frozen=True)
class Probe:
    """Answers of a linear classifier about images left out of its training.

    Attributes:
        errors: squared distance of each answer from the one-hot label, float64 (N,); 0 is perfect. Like the Brier
            score it counts how sure an answer is, so that it tells features apart with far fewer images than
            accuracy does.
        right: how often each image was named right, in [0, 1], float64 (N,).
    """

    errors: np.ndarray
    right: np.ndarray

    @property
    def error(self) -> float:
        """Mean over images."""
        return float(self.errors.mean())

    @property
    def top1(self) -> float:
        """Accuracy, in [0, 1]."""
        return float(self.right.mean())


def probe(features: np.ndarray, labels: np.ndarray, *, seed: int, num_folds: int = NUM_FOLDS) -> Probe:
    """Cross-validates a ridge classifier.

    Ridge regression on the one-hot labels (Hastie, Tibshirani, Friedman 2009, sections 3.4.1 and 4.2), features
    standardised and the penalty chosen within the training folds, so that nothing of a held-out image is known. What a
    feature of a held-out image has beyond all training images is cut off: the answer there would be an extrapolation.

    Args:
        features: float (N, D).
        labels: int64 (N,), in [0, K); at least 2 images of some class.
        seed: of the folds; features to be compared need the same.
        num_folds: stratified; repeated up to 4 times where there are few images.
    """
    rows = features.astype(np.float64)
    rounds = [
        _cross_validate(rows, labels, stratified_folds(labels, num_folds, seed + number))
        for number in range(min(max(_MOST_ASKED // len(rows), 1), _MOST_ROUNDS))
    ]
    answers = np.stack(rounds)
    errors = np.sum((answers - np.eye(labels.max() + 1)[labels]) ** 2, axis=2)
    return Probe(errors.mean(axis=0), np.mean(answers.argmax(axis=2) == labels, axis=0))


def _cross_validate(rows: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """An answer for each image from a classifier fitted without its fold, float64 (N, K)."""
    answers = np.empty((len(labels), labels.max() + 1))
    for fold in np.unique(folds):
        held = folds == fold
        train, others = standardize(rows[~held], rows[held])
        weight, bias = _fit(train, labels[~held], answers.shape[1])
        # A unit that hardly ever fires, and does here, is thousands of its deviations away: one image would decide.
        answers[held] = np.clip(others, train.min(axis=0), train.max(axis=0)) @ weight + bias
    return answers


def _fit(rows: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight (D, K) and bias (K,) of ridge with the penalty of the least squared error, each image left out of the fit.

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
    return right @ ((values / (values**2 + penalty))[:, None] * projected), bias


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
