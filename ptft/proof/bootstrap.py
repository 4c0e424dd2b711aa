"""The interval of a mean difference by resampling its pairs."""

import numpy as np
from numpy.typing import ArrayLike

from ptft.proof.paired import Difference

# Binomial draws made at once: 8 MB of counts.
_DRAWS_AT_ONCE = 1_000_000


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    *,
    seed: int,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
) -> Difference:
    """Bootstrap interval of the mean of second minus first, pair by pair: BCa (Efron and Tibshirani 1993).

    The pairs are drawn anew with replacement, N of them each time. The ends are quantiles of the resampled means,
    at levels corrected (equation 14.10) for bias z0, from the share of resampled means below the mean itself (14.14;
    ties count half), and for acceleration a = sum(d^3) / (6 sum(d^2)^1.5) over the centred differences d, which is
    the jackknife's (14.15) for a mean. Where all differences are equal the interval is that one value.

    Args:
        first, second: (N,), values of the two arms for the same N images, for example whether each was right.
            N at least 2; below some 20 the interval is too narrow.
        seed: of the resampling.
        num_resamples: how often.
        confidence: in (0, 1).

    Raises:
        ValueError: fewer than 2 pairs, arms of different length, or a value that is not finite.
    """
    before, after = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if before.ndim != 1 or before.shape != after.shape or len(before) < 2:
        raise ValueError("needs two rows of the same length, at least 2 pairs")
    differences = after - before
    if not np.isfinite(differences).all():
        raise ValueError("needs finite values")
    mean = float(differences.mean())
    if np.ptp(differences) == 0:
        return Difference(mean, mean, mean, len(differences))
    means = resampled_means(differences, seed=seed, num_resamples=num_resamples)
    low, high = np.quantile(means, _levels(differences - mean, means, mean, confidence))
    return Difference(mean, float(low), float(high), len(differences))


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


def _levels(centred: np.ndarray, means: np.ndarray, mean: float, confidence: float) -> list[float]:
    """Levels in [0, 1] of the two quantiles (Efron and Tibshirani 1993, equation 14.10)."""
    from scipy.special import ndtr, ndtri

    ties = np.isclose(means, mean, rtol=0, atol=1e-12 * np.abs(centred).max())
    below = np.mean((means < mean) & ~ties) + np.mean(ties) / 2
    bias = ndtri(np.clip(below, 1 / (len(means) + 1), 1 - 1 / (len(means) + 1)))
    acceleration = np.sum(centred**3) / (6 * np.sum(centred**2) ** 1.5)
    ends = bias + ndtri([0.5 - confidence / 2, 0.5 + confidence / 2])
    return ndtr(bias + ends / (1 - acceleration * ends)).tolist()  # type: ignore[no-any-return]
