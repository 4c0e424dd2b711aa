"""Finds images again among the fingerprints of others: exact copies, and copies that were changed a little.

Two stages. First the look of every query, mirrored and through five windows, is compared with all fingerprints: one
matrix product. Then the 16 most similar are looked at closely: through a hundred windows, since a copy may be cropped,
and in eight tones, since a shift of brightness cuts light or dark pixels off. The distance that decides is how far the
query's values lie outside the bins that the fingerprint's were rounded to, so that rounding itself costs nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ptft.data.fingerprints import CENTRE, NUM_FREQUENCIES, STEP, Window, as_arrays, grey, hashes, look, looks, mirror
from ptft.data.images import Images

THRESHOLD = 1.2e-3
"""Largest distance of a near copy: mean square, over the frequencies, of what lies outside the bins."""

# Among images that all look alike (trousers) small distances are common: a copy is much closer than the crowd, here the
# 8th most similar image. Below _CERTAIN even an image that was seen eight times over counts.
_CROWD = 8
_SHARE_OF_CROWD = 0.05
_CERTAIN = 1e-4
_NUM_CANDIDATES = 16
# Mean square; of planted copies, cropped or shifted in brightness, the farthest was at 0.065.
_CANDIDATE_DISTANCE = 0.1
# Small enough that the products of a batch and a portion stay in the caches, large enough for two threads to share.
_QUERIES = 64
_PORTION = 1024
_CROPS = (0.025, 0.05)
_TONES = (10, 20, 30, 40)


@dataclass(frozen=True)
class Match:
    """A query found again.

    Attributes:
        query: its row.
        seen: row of the fingerprint.
        kind: `exact` for the same pixels, `near` for the same look.
        distance: 0 for exact; at most `THRESHOLD` for near.
    """

    query: int
    seen: int
    kind: Literal["exact", "near"]
    distance: float


def find(
    queries: Images,
    prints: Tensor,
    seen: Tensor,
    *,
    near: bool = True,
    check_stop: Callable[[], None] = lambda: None,
) -> list[Match]:
    """For each query that is among the seen images, its best match.

    Args:
        queries: N images.
        prints: their fingerprints, uint8 (N, 33).
        seen: fingerprints to search, uint8 (M, 33).
        near: whether to search for changed copies too; else for exact ones only.
        check_stop: called between batches; raises when a signal asked to stop.

    Returns:
        At most one match a query, in the order of the queries.
    """
    if not len(prints) or not len(seen):
        return []
    matches = {match.query: match for match in _exact(hashes(prints), hashes(seen))}
    rest = torch.tensor([row for row in range(len(prints)) if row not in matches], dtype=torch.int64)
    if near:
        terms = _stored_terms(looks(seen))
        for rows in rest.split(_QUERIES):
            check_stop()
            matches |= {match.query: match for match in _near(queries.take(rows), rows, terms)}
    return [matches[row] for row in sorted(matches)]


def _exact(queries: Tensor, seen: Tensor) -> Iterator[Match]:
    ordered, order = seen.sort(stable=True)
    places = torch.searchsorted(ordered, queries).clamp(max=len(seen) - 1)
    for query in (ordered[places] == queries).nonzero()[:, 0].tolist():
        yield Match(query, int(order[places[query]]), "exact", 0.0)


def _near(images: Tensor, rows: Tensor, terms: Tensor) -> Iterator[Match]:
    """Matches of a batch of images uint8 (B, C, S, S) among the looks in `_stored_terms`."""
    pictures = grey(as_arrays(images))
    candidates, distances = _candidates(pictures, terms)
    likely = (distances < _CANDIDATE_DISTANCE).any(dim=1).nonzero()[:, 0]
    if not len(likely):
        return
    views = _close_views(pictures[likely.numpy()])
    for place, view in zip(likely.tolist(), views, strict=True):
        chosen = candidates[place][distances[place] < _CANDIDATE_DISTANCE]
        outside = ((view[:, None] - terms[chosen, :NUM_FREQUENCIES]).abs_() - STEP / 2).clamp_(min=0)
        close = outside.square_().mean(dim=2).amin(dim=0)
        best = int(close.argmin())
        if close[best] <= _limit(close):
            yield Match(int(rows[place]), int(chosen[best]), "near", float(close[best]))


def _limit(distances: Tensor) -> float:
    """Largest distance that counts as a copy, given the distances of all who look similar."""
    if len(distances) < _CROWD:
        return THRESHOLD
    crowd = float(distances.kthvalue(_CROWD).values)
    return min(THRESHOLD, max(_CERTAIN, _SHARE_OF_CROWD * crowd))


def _candidates(pictures: np.ndarray, terms: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the most similar looks, int64 (B, k), and their mean square distances (B, k), given `_stored_terms`."""
    views = _view_terms(_mirrored(np.stack([look(pictures, window) for window in _coarse_windows()], axis=1)))
    k = min(_NUM_CANDIDATES, len(terms))
    rows, distances = [], []
    for start in range(0, len(terms), _PORTION):
        portion = terms[start : start + _PORTION]
        best = torch.matmul(views, portion.T).amin(dim=1).topk(min(k, len(portion)), largest=False)
        rows.append(best.indices + start)
        distances.append(best.values)
    best = torch.cat(distances, dim=1).topk(k, largest=False)
    return torch.cat(rows, dim=1).gather(1, best.indices), best.values / NUM_FREQUENCIES


# A matrix product alone gives squared distances, |v - s|^2 = (-2v, |v|^2, 1) . (s, 1, |s|^2): what would be done to
# each of its results afterwards took longer than the product.


def _view_terms(views: Tensor) -> Tensor:
    """Of v (..., 36) the left side, (..., 38)."""
    squares = views.square().sum(dim=-1, keepdim=True)
    return torch.cat([-2 * views, squares, torch.ones_like(squares)], dim=-1)


def _stored_terms(stored: Tensor) -> Tensor:
    """Of s (M, 36) the right side, (M, 38)."""
    squares = stored.square().sum(dim=-1, keepdim=True)
    return torch.cat([stored, torch.ones_like(squares), squares], dim=-1)


def _close_views(pictures: np.ndarray) -> Tensor:
    """Looks of pictures (B, S, S) under every change that is tried, float32 (B, V, 36)."""
    views = [look(pictures, window) for window in _close_windows()]
    views += [look(_toned(pictures, shift), CENTRE) for tone in _TONES for shift in (tone, -tone)]
    return _mirrored(np.stack(views, axis=1))


def _mirrored(views: np.ndarray) -> Tensor:
    """Views (B, V, 36) and their mirror images, (B, 2V, 36)."""
    return torch.from_numpy(np.concatenate([views, views * mirror()], axis=1))


def _toned(pictures: np.ndarray, shift: int) -> np.ndarray:
    """Undoes a shift of brightness that cut pixels off at white (shift > 0) or black (shift < 0)."""
    if shift > 0:
        return np.where(pictures >= 254.5, 255.0, np.maximum(pictures - shift, 0)).astype(np.float32)
    return np.where(pictures <= 0.5, 0.0, np.minimum(pictures - shift, 255)).astype(np.float32)


def _coarse_windows() -> list[Window]:
    side = (CENTRE[1] - CENTRE[0]) / (1 - _CROPS[-1])
    starts = [(1 - side) * share for share in (0.25, 0.75)]
    return [CENTRE, *((top, top + side, left, left + side) for top in starts for left in starts)]


def _close_windows() -> list[Window]:
    """Where the fingerprint's window may lie in a copy cropped anywhere by 0, 2.5, 5 %, or by 5 % at every edge."""
    windows = [CENTRE, (0.0, 1.0, 0.0, 1.0)]
    for crop, count in zip(_CROPS, (5, 9), strict=True):
        side = (CENTRE[1] - CENTRE[0]) / (1 - crop)
        starts = np.linspace(0, 1 - side, count).tolist()
        windows += [(top, top + side, left, left + side) for top in starts for left in starts]
    return windows
