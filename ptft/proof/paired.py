"""The difference between two arms that share their seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


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
    def verdict(self) -> str:
        """`helped`, `hurt`, or `within noise` when the interval holds zero."""
        if self.low > 0:
            return "helped"
        return "hurt" if self.high < 0 else "within noise"


def paired_difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Difference:
    """Student's interval of the mean of paired differences (Student 1908).

    Args:
        first, second: values of the two arms, pair by pair; at least 2 pairs.
        confidence: in (0, 1).

    Raises:
        ValueError: fewer than 2 pairs, or arms of different length.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError("needs at least 2 pairs")
    mean, low, high = mean_interval([b - a for a, b in zip(first, second, strict=True)], confidence)
    return Difference(mean, low, high, len(first))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of at least 2 values, and the ends of Student's interval of it."""
    from scipy.stats import t

    count = len(values)
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(t.ppf(0.5 + confidence / 2, count - 1)) * math.sqrt(variance / count)
    return mean, mean - half, mean + half
