"""The difference between two arms that share their seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Bounds = tuple[float, float]
"""Between what a mean can lie at all."""

ANYWHERE: Bounds = (-math.inf, math.inf)
OF_ACCURACY: Bounds = (0.0, 1.0)
OF_DIFFERENCE: Bounds = (-1.0, 1.0)
"""Of accuracies."""


@dataclass(frozen=True)
class Difference:
    """Mean difference of paired values and its interval.

    Attributes:
        mean: of second minus first.
        low, high: ends of the interval.
        num_pairs: n.
    """

    mean: float
    low: float
    high: float
    num_pairs: int

    @property
    def verdict(self) -> Literal["helped", "hurt", "within noise"]:
        """`helped`, `hurt`, or `within noise` when the interval holds zero."""
        if self.low > 0:
            return "helped"
        return "hurt" if self.high < 0 else "within noise"


def paired_difference(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95, bounds: Bounds = ANYWHERE
) -> Difference:
    """Student's interval of the mean of paired differences (Student 1908).

    Args:
        first, second: values of the two arms, pair by pair; at least 2 pairs.
        confidence: in (0, 1).
        bounds: that the interval is cut off at; so it stays on its side of 0.

    Raises:
        ValueError: fewer than 2 pairs, or arms of different length.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError("needs at least 2 pairs")
    mean, low, high = mean_interval([b - a for a, b in zip(first, second, strict=True)], confidence, bounds)
    return Difference(mean, low, high, len(first))


def mean_interval(
    values: Sequence[float], confidence: float = 0.95, bounds: Bounds = ANYWHERE
) -> tuple[float, float, float]:
    """Mean of at least 2 values, and the ends of Student's interval of it, cut off at the bounds."""
    from scipy.stats import t

    count = len(values)
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(t.ppf(0.5 + confidence / 2, count - 1)) * math.sqrt(variance / count)
    return mean, max(bounds[0], mean - half), min(bounds[1], mean + half)
