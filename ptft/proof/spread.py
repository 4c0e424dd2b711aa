"""The interval of a mean over seeds and test images, honest with few seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptft.proof.paired import OF_DIFFERENCE, Bounds

CONFIDENCE = 0.95
_NUM_DRAWS = 20_000
# Binomial draws made at once: 8 MB of counts.
_DRAWS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and images, and how far it may be off.

    Attributes:
        mean: of all.
        low, high: 95 % interval, for other seeds and other images of the same kind, as far as a mean can lie there;
            None with a single seed.
        p_value: two-sided, of the hypothesis that the mean is 0; None with a single seed.
        p_value_of_many: what it would be if this spread were known from many seeds.
        num_seeds, num_images: how many of each; seeds that share a source, where there are several, count once.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    p_value_of_many: float | None
    num_seeds: int
    num_images: int

    def interval(self, format_: str) -> str:
        """Its ends in percent, for example `+5.0 to +11.2` with the format `+.1f`; empty with a single seed."""
        if self.low is None or self.high is None:
            return ""
        return f"{100 * self.low:{format_}} to {100 * self.high:{format_}}"

    def as_dict(self) -> dict[str, Any]:
        """Plain Python."""
        return {key: getattr(self, key) for key in ("mean", "low", "high", "p_value", "num_seeds", "num_images")}


def spread_of(values: np.ndarray, bounds: Bounds = OF_DIFFERENCE) -> Spread:
    """Mean and interval of values that vary with the seed and with the image.

    The value of seed s at image i is taken as mean + u_s + v_i + e_si. The error of the mean is drawn as the sum of
    two: Student's t with S - 1 degrees of freedom times the standard error of the S seeds' means, because so few
    seeds resampled would give an interval far too narrow (Hesterberg 2015, The American Statistician 69:4, section
    4: by sqrt((S - 1) / S), and normal instead of t); and the mean over images of the seeds' average, resampled
    with replacement as the bootstrap does. Both hold a share of e_si, so that the interval errs to the wide side,
    as the pigeonhole bootstrap (Owen 2007) does. The ends are quantiles of 20,000 draws, cut off at the bounds, which
    Student's t knows nothing of: with two seeds it reaches 12.7 standard errors to each side. The p-value is the level
    at which the interval would just touch 0; no bound changes it.

    Args:
        values: (S, N), float; for paired arms their differences, seed by seed and image by image.
        bounds: between what the mean can lie.
    """
    num_seeds, num_images = values.shape
    means = values.mean(axis=1)
    mean = float(means.mean())
    if num_seeds < 2:
        return Spread(mean, None, None, None, None, num_seeds, num_images)
    rng = np.random.default_rng(0)
    error = float(means.std(ddof=1)) / np.sqrt(num_seeds)
    images = resampled_means(values.mean(axis=0), seed=1, num_resamples=_NUM_DRAWS)
    draws = images + error * rng.standard_t(num_seeds - 1, _NUM_DRAWS)
    low, high = np.quantile(draws, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2]).clip(*bounds)
    of_many = images + error * rng.standard_normal(_NUM_DRAWS)
    return Spread(mean, float(low), float(high), _p_value(draws), _p_value(of_many), num_seeds, num_images)


def _p_value(draws: np.ndarray) -> float:
    sides = [int((draws <= 0).sum()), int((draws >= 0).sum())]
    return min(1.0, 2 * (min(sides) + 1) / (len(draws) + 1))


def resampled_means(values: np.ndarray, *, seed: int, num_resamples: int) -> np.ndarray:
    """Means of N values drawn with replacement from the N given, float64 (num_resamples,).

    How often each distinct value comes is multinomial; drawing these counts is the same and, with the few distinct
    differences that right and wrong can have, some thousand times less work than drawing the values.
    """
    distinct, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    batch = max(1, _DRAWS_AT_ONCE // len(distinct))
    means = [
        rng.multinomial(len(values), counts / len(values), size=min(batch, num_resamples - start)) @ distinct
        for start in range(0, num_resamples, batch)
    ]
    return np.concatenate(means) / len(values)


def holm(p_values: Sequence[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """Which of several hypotheses to reject so that a false rejection among all is at most `level` likely.

    Holm (1979): the smallest p-value is held to level / m, the next to level / (m - 1), and so on until one fails.
    """
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected
