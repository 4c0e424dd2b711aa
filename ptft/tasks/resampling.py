"""Bootstrap and jackknife over images, for scores that are no mean."""

from collections.abc import Callable

import numpy as np

_CONFIDENCE = 0.95
_MOST, _LEAST = 1000, 200
# Images times outputs, over all resamples: a second or two.
_MOST_CELLS = 5_000_000
_MOST_GROUPS, _FEWEST_GROUPS = 200, 20
# Images times outputs, over all groups: half a second.
_MOST_CELLS_OF_GROUPS = 8_000_000


def intervals(statistic: Callable[[np.ndarray], np.ndarray], num_images: int, num_outputs: int) -> np.ndarray:
    """95 % intervals of the entries of a statistic: quantiles of it over resampled images (Efron and Tibshirani 1993,
    chapter 13).

    N images are drawn anew with replacement, 1,000 times, fewer (at least 200) where images and outputs are many; the
    draws are a function of N alone. Below some 20 images the intervals are too narrow.

    Args:
        statistic: of how often each image counts, int64 (N,), float64 (M,); NaN where it is not defined.
        num_images: N.
        num_outputs: K, for the number of resamples.

    Returns:
        float64 (M, 2); NaN for an entry that is not defined in more than half of the resamples.
    """
    rng = np.random.default_rng(0)
    count = max(_LEAST, min(_MOST, _MOST_CELLS // (num_images * num_outputs)))
    draws = [np.bincount(rng.integers(num_images, size=num_images), minlength=num_images) for _ in range(count)]
    values = np.stack([statistic(draw) for draw in draws])
    is_known = np.isfinite(values).mean(axis=0) > 0.5
    ends = np.full((values.shape[1], 2), np.nan)
    tail = (1 - _CONFIDENCE) / 2
    if is_known.any():
        ends[is_known] = np.nanquantile(values[:, is_known], [tail, 1 - tail], axis=0).T
    return ends


def pseudo_values(statistic: Callable[[np.ndarray], float], num_images: int, num_outputs: int) -> np.ndarray:
    """What each group of images adds to a statistic: a sample with it as its mean, and about its standard error.

    g · θ - (g - 1) · θ without the group, of the jackknife (Efron and Tibshirani 1993, equations 11.1 and 11.16), all
    shifted so that θ is their mean: where a class has few images, it would be far off. Of a mean they are its values,
    averaged over a group.

    Args:
        statistic: of how often each image counts, int64 (N,).
        num_images: N; they fall into g groups of nearly the same size, in order: N, at most 200, and fewer (at least
            20) where images and outputs are many.
        num_outputs: K.

    Returns:
        float64 (g,).
    """
    affordable = max(_FEWEST_GROUPS, min(_MOST_GROUPS, _MOST_CELLS_OF_GROUPS // (num_images * num_outputs)))
    groups = np.array_split(np.arange(num_images), min(num_images, affordable))
    counts = np.ones(num_images, np.int64)
    whole, found = statistic(counts), np.empty(len(groups))
    for index, group in enumerate(groups):
        counts[group] = 0
        found[index] = len(groups) * whole - (len(groups) - 1) * statistic(counts)
        counts[group] = 1
    shifted: np.ndarray = found + (whole - found.mean())
    return shifted
