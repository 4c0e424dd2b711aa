"""LogME: how probable are the labels, given the features and any linear model?"""

import numpy as np

_MOST_ROUNDS = 100
_TOLERANCE = 1e-5


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Logarithm of the maximum evidence, a label, mean over classes, in nats (You et al. 2021, LogME, section 4).

    For each class, its column y of the one-hot labels has the evidence of Bayesian linear regression

        N/2 ln b + D/2 ln a - N/2 ln 2 pi - b/2 |F m - y|^2 - a/2 m'm - 1/2 ln|A|,  A = a I + b F'F,  m = b A^-1 F'y

    at the a (precision of the weights) and b (of the noise) that maximise it, found by the fixed point
    (MacKay 1992; algorithm 1 of the paper)

        g = sum_i b s_i / (a + b s_i),  a = g / m'm,  b = (N - g) / |F m - y|^2,  s_i the eigenvalues of F'F.

    LogME is the mean over classes, divided by N. Features are as they come, as in the paper, but for a common factor:
    the maximum does not depend on it, the way there does, so it makes their mean square 1.

    Args:
        features: float (N, D).
        labels: int64 (N,), in [0, K).
    """
    from scipy.linalg import eigh

    rows = features.astype(np.float64)
    rows /= max(np.sqrt(np.mean(rows**2)), 1e-30)
    # All that is needed of F'F beyond its N x N form are zeros, which the terms in `num_dims` stand for.
    is_wide = rows.shape[1] > rows.shape[0]
    squares, vectors = eigh(rows @ rows.T if is_wide else rows.T @ rows)
    targets = np.eye(labels.max() + 1)[labels]
    known = squares > 1e-12 * squares[-1]
    squares, vectors = squares[known], vectors[:, known]
    left = vectors if is_wide else rows @ vectors / np.sqrt(squares)
    projected = (left.T @ targets) ** 2
    outside = np.maximum((targets**2).sum(axis=0) - projected.sum(axis=0), 0)
    evidences = [
        _maximum(squares, projected[:, label], outside[label], *rows.shape) for label in range(targets.shape[1])
    ]
    return float(np.mean(evidences)) / len(rows)


def _maximum(squares: np.ndarray, projected: np.ndarray, outside: float, count: int, num_dims: int) -> float:
    """The evidence of one column at its fixed point.

    Args:
        squares: s_i > 0, (r,).
        projected: (u_i'y)^2 for the left singular vectors u_i, (r,).
        outside: squared length of what y has outside of their span.
        count: N.
        num_dims: D.
    """
    a = b = 1.0
    for _ in range(_MOST_ROUNDS):
        weight, error = _sizes(squares, projected, outside, a, b)
        g = np.sum(b * squares / (a + b * squares))
        before = a / b
        a, b = _bounded(g / max(weight, 1e-30)), _bounded((count - g) / max(error, 1e-30))
        if abs(a / b - before) <= _TOLERANCE * before:
            break
    weight, error = _sizes(squares, projected, outside, a, b)
    log_determinant = np.sum(np.log(a + b * squares)) + (num_dims - len(squares)) * np.log(a)
    return float(
        count / 2 * np.log(b)
        + num_dims / 2 * np.log(a)
        - count / 2 * np.log(2 * np.pi)
        - b / 2 * error
        - a / 2 * weight
        - log_determinant / 2
    )


def _bounded(precision: float) -> float:
    """Features that say nothing, or everything, have no finite optimum."""
    return float(np.clip(precision, 1e-10, 1e10))


def _sizes(squares: np.ndarray, projected: np.ndarray, outside: float, a: float, b: float) -> tuple[float, float]:
    """m'm and |F m - y|^2."""
    shrunk = a + b * squares
    return float(np.sum(b**2 * squares * projected / shrunk**2)), outside + float(np.sum(a**2 * projected / shrunk**2))
