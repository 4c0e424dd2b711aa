"""LogME: how probable are the labels, given the features and any linear model?"""

from dataclasses import dataclass

import numpy as np

_MOST_ROUNDS = 100
_TOLERANCE = 1e-5
_PRECISIONS = (1e-10, 1e10)


@dataclass(frozen=True)
class Evidence:
    """The maximum evidence for the labels.

    Attributes:
        logme: its logarithm, a label, mean over classes, in nats; higher is better.
        of_images: what each image adds, float64 (N,), with `logme` as mean. Differences between two sets of features
            are to be taken image by image: their spread is that of the difference in LogME.
    """

    logme: float
    of_images: np.ndarray


def evidence(features: np.ndarray, labels: np.ndarray) -> Evidence:
    """LogME (You et al. 2021, LogME: Practical assessment of pre-trained models for transfer learning, section 4).

    For each class, its column y of the one-hot labels has the log evidence of Bayesian linear regression

        L = N/2 ln b + D/2 ln a - N/2 ln 2 pi - b/2 |F m - y|^2 - a/2 m'm - 1/2 ln|A|,
        A = a I + b F'F,  m = b A^-1 F'y

    at the a (precision of the weights) and b (of the noise) that maximise it, found by the fixed point
    (MacKay 1992; algorithm 1 of the paper)

        g = sum_i b s_i / (a + b s_i),  a = g / m'm,  b = (N - g) / |F m - y|^2,  s_i the eigenvalues of F'F.

    LogME is the mean of L over classes, divided by N. Features are as they come, as in the paper.

    What an image adds is not in the paper: at the a and b found, L without image i is less by exactly the log density
    l_i of y_i given all others (Rasmussen and Williams 2006, equations 5.10 to 5.12), so that the l_i are the
    pseudo-values of the jackknife of LogME (Efron and Tibshirani 1993, chapter 11). They are shifted by a constant
    to have LogME as mean.

    Args:
        features: float (N, D).
        labels: int64 (N,); at least 2 classes.
    """
    rows = features.astype(np.float64)
    left, squares = _decompose(rows)
    totals, parts = [], np.zeros(len(rows))
    classes = np.unique(labels)
    for label in classes:
        total, added = _column(left, squares, (labels == label).astype(np.float64), rows.shape[1])
        totals.append(total)
        parts += added / len(classes)
    logme = float(np.mean(totals)) / len(rows)
    return Evidence(logme, parts - parts.mean() + logme)


def _decompose(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (N, r), and the eigenvalues of F'F that are not zero, (r,); from the smaller product."""
    from scipy.linalg import eigh

    is_wide = rows.shape[1] > rows.shape[0]
    squares, vectors = eigh(rows @ rows.T if is_wide else rows.T @ rows)
    kept = squares > 1e-12 * max(squares[-1], 1e-300)
    squares, vectors = squares[kept], vectors[:, kept]
    return (vectors if is_wide else rows @ vectors / np.sqrt(squares)), squares


def _column(left: np.ndarray, squares: np.ndarray, y: np.ndarray, num_dims: int) -> tuple[float, np.ndarray]:
    """L of one class, and l_i of every image, (N,)."""
    projected = left.T @ y
    outside = max(float(y @ y - projected @ projected), 0.0)
    a, b = _fixed_point(squares, projected**2, outside, len(y))
    weight, error = _sizes(squares, projected**2, outside, a, b)
    log_determinant = np.sum(np.log(a + b * squares)) + (num_dims - len(squares)) * np.log(a)
    total = len(y) * np.log(b / (2 * np.pi)) + num_dims * np.log(a) - b * error - a * weight - log_determinant
    share = b * squares / (a + b * squares)
    precision = b * np.maximum(1 - (left**2) @ share, 1e-12)
    residual = b * (y - left @ (share * projected)) / precision
    return float(total / 2), (np.log(precision / (2 * np.pi)) - precision * residual**2) / 2


def _fixed_point(squares: np.ndarray, projected: np.ndarray, outside: float, count: int) -> tuple[float, float]:
    """The a and b of the highest evidence.

    Args:
        squares: s_i > 0, (r,).
        projected: (u_i'y)^2 for the left singular vectors u_i, (r,).
        outside: squared length of what y has outside of their span.
        count: N.
    """
    a = b = 1.0
    for _ in range(_MOST_ROUNDS):
        weight, error = _sizes(squares, projected, outside, a, b)
        g = float(np.sum(b * squares / (a + b * squares)))
        before = a / b
        # Features that say nothing, or all there is, have no finite optimum.
        a, b = np.clip([g / max(weight, 1e-30), (count - g) / max(error, 1e-30)], *_PRECISIONS).tolist()
        if abs(a / b - before) <= _TOLERANCE * before:
            break
    return a, b


def _sizes(squares: np.ndarray, projected: np.ndarray, outside: float, a: float, b: float) -> tuple[float, float]:
    """m'm and |F m - y|^2."""
    shrunk = a + b * squares
    return float(np.sum(b**2 * squares * projected / shrunk**2)), outside + float(np.sum(a**2 * projected / shrunk**2))
