"""Is a classifier right as often as it says? The error of its confidences, and the temperature that mends them."""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

# T beyond these changes nothing that anyone could see; the likelihood has no optimum when all answers are right.
_COLDEST, _HOTTEST = 0.01, 100.0
# Relative, of T.
_PRECISION = 1e-6


@dataclass(frozen=True)
class ConfidenceBin:
    """Images whose confidence lies in (low, high].

    Attributes:
        low, high: ends; the first bin holds its low end too.
        num_examples: images in it.
        confidence: their mean confidence, in [0, 1]; None without images.
        accuracy: share of them that are right, in [0, 1]; None without images.
    """

    low: float
    high: float
    num_examples: int
    confidence: float | None
    accuracy: float | None

    @property
    def gap(self) -> float:
        """|accuracy - confidence|; 0 without images."""
        return 0.0 if self.accuracy is None or self.confidence is None else abs(self.accuracy - self.confidence)


@dataclass(frozen=True)
class CalibrationError:
    """How far confidence and accuracy are apart.

    Attributes:
        error: mean over images of |accuracy - confidence| of their bin, in [0, 1].
        bins: of equal width over [0, 1], from low to high.
    """

    error: float
    bins: tuple[ConfidenceBin, ...]


def expected_calibration_error(confidences: ArrayLike, is_right: ArrayLike, num_bins: int = 15) -> CalibrationError:
    """Expected calibration error (Guo et al. 2017, equation 3).

    Args:
        confidences: (N,), probability of the predicted class, in [0, 1]; at least one.
        is_right: bool (N,), whether the prediction was right.
        num_bins: M.

    Raises:
        ValueError: rows of different length, none, or confidences outside [0, 1].
    """
    shares, right = np.asarray(confidences, np.float64), np.asarray(is_right, bool)
    if shares.ndim != 1 or shares.shape != right.shape or not len(shares):
        raise ValueError("needs two rows of the same length, at least 1 image")
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError("confidences must be in [0, 1]")
    edges = np.linspace(0, 1, num_bins + 1)
    place = np.searchsorted(edges[1:-1], shares, side="left")
    bins = tuple(
        _bin(float(low), float(high), shares[place == index], right[place == index])
        for index, (low, high) in enumerate(pairwise(edges))
    )
    return CalibrationError(sum(part.num_examples * part.gap for part in bins) / len(shares), bins)


def _bin(low: float, high: float, confidences: np.ndarray, is_right: np.ndarray) -> ConfidenceBin:
    if not len(confidences):
        return ConfidenceBin(low, high, 0, None, None)
    return ConfidenceBin(low, high, len(confidences), float(confidences.mean()), float(is_right.mean()))


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature T that makes softmax(logits / T) most likely (Guo et al. 2017, section 4.2).

    The mean negative log-likelihood is convex in 1/T; its derivative there, the mean over images of
    sum_k p_k z_k - z_label, rises, and T is where it is zero. Fit it on validation, never on the test images.

    Args:
        logits: (N, K), finite; at least one row.
        labels: int (N,), in [0, K).

    Returns:
        T > 0, kept within [0.01, 100]: above 1 the classifier was too sure of itself, below 1 not sure enough.

    Raises:
        ValueError: shapes that do not fit, no rows, or logits that are not finite.
    """
    rows, truth = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    if rows.ndim != 2 or truth.shape != rows.shape[:1] or not len(truth) or not np.isfinite(rows).all():
        raise ValueError("needs finite logits (N, K) and labels (N,), at least 1 image")
    rows = rows - rows.max(axis=1, keepdims=True)
    reached = rows[np.arange(len(truth)), truth].mean()
    num_places = round(np.log(_HOTTEST / _COLDEST) / _PRECISION)

    def temperature(place: int) -> float:
        return float(_COLDEST * (_HOTTEST / _COLDEST) ** (place / num_places))

    def is_past(place: int) -> bool:
        weights = np.exp(rows / temperature(place))
        return bool(((weights * rows).sum(axis=1) / weights.sum(axis=1)).mean() <= reached)

    # scipy's root finders would take as long to import as a small run takes to be evaluated.
    return temperature(bisect_left(range(num_places), True, key=is_past))
