"""Do two classifiers err equally often on the same images?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class McNemar:
    """The exact test of McNemar.

    Attributes:
        num_only_first: images that only the first classifier got right.
        num_only_second: images that only the second got right.
        p_value: two-sided: how often two equally good classifiers differ at least as much, in (0, 1].
    """

    num_only_first: int
    num_only_second: int
    p_value: float


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> McNemar:
    """Exact test of McNemar (1947): images on which the two disagree favour either with probability 1/2.

    The p-value is the binomial one, without the chi-squared approximation, which needs some 25 disagreements.

    Args:
        first_right, second_right: bool (N,), whether each classifier was right, for the same N images.

    Raises:
        ValueError: rows of different length.
    """
    from scipy.stats import binomtest

    first, second = np.asarray(first_right, bool), np.asarray(second_right, bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError("needs two rows of the same length")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    num_different = only_first + only_second
    p_value = float(binomtest(only_first, num_different).pvalue) if num_different else 1.0
    return McNemar(only_first, only_second, p_value)
