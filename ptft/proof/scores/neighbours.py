"""k-NN: is an image like others of its class?"""

import numpy as np

from ptft.data.folds import standardize

NUM_NEIGHBOURS = 20
TEMPERATURE = 0.07
_ROWS_AT_ONCE = 512


def neighbours_right(features: np.ndarray, labels: np.ndarray, num_neighbours: int = NUM_NEIGHBOURS) -> np.ndarray:
    """Which images their nearest neighbours name right, each image left out of its own vote; bool (N,).

    The vote of Wu et al. 2018 (Unsupervised feature learning via non-parametric instance discrimination, section
    3.4): the k images of highest cosine similarity s vote for their class with weight exp(s / 0.07); k = 20 as Caron
    et al. 2021 found to be good throughout. We differ in standardising the features first, so that a column's scale
    does not matter. Of classes with equal votes the first is named.

    Args:
        features: float (N, D), N at least 2.
        labels: int64 (N,), in [0, K).
        num_neighbours: k; all others where there are fewer.
    """
    rows = standardize(features, features)[0].astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    one_hot = np.eye(labels.max() + 1)[labels]
    count = min(num_neighbours, len(rows) - 1)
    predicted: list[np.ndarray] = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        similarity = rows[start : start + _ROWS_AT_ONCE] @ rows.T
        own = np.arange(len(similarity))
        similarity[own, start + own] = -np.inf
        nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        weights = np.exp(np.take_along_axis(similarity, nearest, axis=1).astype(np.float64) / TEMPERATURE)
        predicted.append(np.einsum("nk,nkc->nc", weights, one_hot[nearest]).argmax(axis=1))
    right: np.ndarray = np.concatenate(predicted) == labels
    return right
