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
    from scipy.stats import t

    if len(first) != len(second) or len(first) < 2:
        raise ValueError("needs at least 2 pairs")
    differences = [b - a for a, b in zip(first, second, strict=True)]
    count = len(differences)
    mean = sum(differences) / count
    variance = sum((difference - mean) ** 2 for difference in differences) / (count - 1)
    half = float(t.ppf(0.5 + confidence / 2, count - 1)) * math.sqrt(variance / count)
    return Difference(mean, mean - half, mean + half, count)
