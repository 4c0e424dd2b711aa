"""H-score: how far are the classes apart, measured by the spread of all images?"""

import numpy as np


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Regularised H-score (Ibrahim et al. 2022, Newer is not always better), in [0, K - 1].

    (1 - w) tr(C_w^-1 C_between), where C_between is the covariance of the class means, each image counted, and
    C_w = (1 - w) C + w tr(C)/D I the covariance of the features shrunk by the w of Ledoit and Wolf (2004, section
    3.2): w = min(1, b / d) with d = |C - tr(C)/D I|^2 and b = sum_i |x_i x_i' - C|^2 / N^2. All
    covariances divide by N. Features that are all the same score 0.

    Args:
        features: float (N, D).
        labels: int64 (N,), in [0, K).
    """
    from scipy.linalg import cho_factor, cho_solve

    rows = centred(features.astype(np.float64))
    covariance = rows.T @ rows / len(rows)
    scale = np.trace(covariance) / len(covariance)
    if scale <= 0:
        return 0.0
    w = shrinkage(rows, covariance)
    shrunk = (1 - w) * covariance
    shrunk[np.diag_indices_from(shrunk)] += w * scale
    counts = np.bincount(labels)
    present = np.flatnonzero(counts)
    means = np.stack([rows[labels == label].mean(axis=0) for label in present])
    # Shrinking to nothing (w = 0) leaves columns that are always 0 without an inverse.
    shrunk[np.diag_indices_from(shrunk)] += 1e-12 * scale
    distances = np.sum(means * cho_solve(cho_factor(shrunk), means.T).T, axis=1)
    return float((1 - w) * np.sum(counts[present] / len(rows) * distances))


def centred(rows: np.ndarray) -> np.ndarray:
    """Columns less their means; those that are the same for all up to rounding become 0.

    Args:
        rows: float64 (N, D).
    """
    mean = rows.mean(axis=0)
    return np.where(rows.std(axis=0) > 1e-6 * np.abs(mean), rows - mean, 0.0)


def shrinkage(rows: np.ndarray, covariance: np.ndarray) -> float:
    """The w of Ledoit and Wolf, in [0, 1].

    Args:
        rows: float64 (N, D), centred.
        covariance: theirs, (D, D), divided by N.
    """
    total = np.sum(covariance**2)
    d = total - np.trace(covariance) ** 2 / len(covariance)
    # sum_i |x_i x_i' - C|^2 = sum_i |x_i|^4 - N |C|^2, as the x_i x_i' have mean C.
    b = (np.sum(np.sum(rows**2, axis=1) ** 2) / len(rows) - total) / len(rows)
    # A single column is its own scaled identity: shrinking does nothing to it.
    return float(min(max(b / d, 0.0), 1.0)) if d > 0 else 0.0
