"""What multi-label predictions are worth: average precision and F1 of each class, and their means."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ptft.tasks.resampling import intervals, pseudo_values


@dataclass(frozen=True)
class MultiLabelScores:
    """Scores of N images and K classes.

    Attributes:
        logits: float64 (N, K).
        truth: bool (N, K).
        threshold: probability from which an image counts as having a class, in (0, 1).
        loss: mean over the images of the cross-entropy summed over the classes, in nats, without smoothing or weights.
    """

    logits: np.ndarray
    truth: np.ndarray
    threshold: float
    loss: float

    @property
    def num_examples(self) -> int:
        return len(self.logits)

    @property
    def merit(self) -> float:
        """mAP; 0 where no image has any class."""
        return self.mean_average_precision or 0.0

    @property
    def mean_average_precision(self) -> float | None:
        """mAP: mean of the average precision over the classes that some image has; None where there is none."""
        return _known(self._values[0])

    def merits(self) -> np.ndarray:
        """What groups of images add to mAP, float64 (G,), see `pseudo_values`."""

        def mean_average_precision(counts: np.ndarray) -> float:
            precision = self._average_precisions(counts)
            is_there = np.isfinite(precision)
            return float(precision[is_there].mean()) if is_there.any() else 0.0

        return pseudo_values(mean_average_precision, *self.logits.shape)

    def summary(self) -> dict[str, Any]:
        """mAP and the mean F1 over the same classes, with 95 % bootstrap intervals, each None where it is not known."""
        return {"loss": self.loss, **self._entry("map", 0), **self._entry("f1", 1), "num_examples": self.num_examples}

    def details(self, classes: Sequence[str]) -> dict[str, Any]:
        """Per class, and the threshold."""
        return {"per_class": self.per_class(classes), "threshold": self.threshold}

    def ancestry(self) -> dict[str, Any]:
        return {"score": self.sentence()}

    def short(self) -> str:
        """`mAP 71.2 %`."""
        return f"mAP {_percent(self.mean_average_precision)}"

    def sentence(self) -> str:
        """`mAP 71.2 % (95 % interval 68.0 to 74.1), F1 65.0 % (61.2 to 68.8), n = 500`."""
        found = self.summary()
        return (
            f"mAP {_percent(found['map'])} ({_ends(found, 'map', '95 % interval ')}), F1 {_percent(found['f1'])} "
            f"({_ends(found, 'f1')}), n = {self.num_examples:,}"
        )

    def per_class(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Count, average precision and F1 with 95 % intervals, precision and recall of each class.

        Average precision and recall are None where no image has the class, precision where no image was said to, F1
        where neither.
        """
        right = (self._said & self.truth).sum(axis=0)
        said, true = self._said.sum(axis=0), self.truth.sum(axis=0)
        count = len(classes)
        return [
            {
                "class": name,
                "num_examples": int(true[index]),
                **self._entry("average_precision", 2 + index),
                **self._entry("f1", 2 + count + index),
                "precision": _ratio(right[index], said[index]),
                "recall": _ratio(right[index], true[index]),
            }
            for index, name in enumerate(classes)
        ]

    def _entry(self, name: str, index: int) -> dict[str, float | None]:
        low, high = self._intervals[index]
        return {name: _known(self._values[index]), f"{name}_low": _known(low), f"{name}_high": _known(high)}

    @cached_property
    def _said(self) -> np.ndarray:
        said: np.ndarray = self.logits >= np.log(self.threshold / (1 - self.threshold))
        return said

    @cached_property
    def _order(self) -> np.ndarray:
        """Rows of each class from the highest logit to the lowest, int64 (N, K)."""
        return np.argsort(-self.logits, axis=0, kind="stable")

    @cached_property
    def _is_last(self) -> np.ndarray:
        """Where in that order a run of equal logits ends, bool (N, K)."""
        ranked = np.take_along_axis(self.logits, self._order, axis=0)
        return np.vstack([ranked[1:] != ranked[:-1], np.ones((1, ranked.shape[1]), bool)])

    @cached_property
    def _values(self) -> np.ndarray:
        return self._statistic(np.ones(self.num_examples, np.int64))

    @cached_property
    def _intervals(self) -> np.ndarray:
        return intervals(self._statistic, *self.logits.shape)

    def _statistic(self, counts: np.ndarray) -> np.ndarray:
        """mAP, mean F1, average precisions, F1s: float64 (2 + 2 K,), of images that count so often."""
        precision, f1 = self._average_precisions(counts), self._f1(counts)
        is_there = np.isfinite(precision)
        means = [values[is_there].mean() if is_there.any() else np.nan for values in (precision, f1)]
        return np.concatenate([means, precision, f1])

    def _average_precisions(self, counts: np.ndarray) -> np.ndarray:
        """Sum over the thresholds of (recall - the recall before) * precision, (K,); equal logits are one threshold."""
        weights = counts[self._order]
        right = np.cumsum(weights * np.take_along_axis(self.truth, self._order, axis=0), axis=0)
        said = np.cumsum(weights, axis=0)
        at_ends = np.where(self._is_last, right, 0)
        before = np.vstack([np.zeros((1, right.shape[1])), np.maximum.accumulate(at_ends, axis=0)[:-1]])
        gained = np.where(self._is_last, right - before, 0)
        total = (gained * right / np.maximum(said, 1)).sum(axis=0)
        found: np.ndarray = np.divide(total, right[-1], out=np.full(len(total), np.nan), where=right[-1] > 0)
        return found

    def _f1(self, counts: np.ndarray) -> np.ndarray:
        """2 right / (said + true), (K,)."""
        right, said, true = (counts @ cells for cells in (self._said & self.truth, self._said, self.truth))
        found: np.ndarray = np.divide(2 * right, said + true, out=np.full(len(right), np.nan), where=said + true > 0)
        return found


class MultiLabelTally:
    """Keeps all logits: a ranking is of all images at once.

    Args:
        threshold: see `MultiLabelScores`.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Keeps one batch: float (B, K) each."""
        self._logits.append(logits)
        self._labels.append(labels)

    def scores(self) -> MultiLabelScores:
        """Of all batches added so far; at least one."""
        logits, labels = (torch.cat(parts).cpu().double() for parts in (self._logits, self._labels))
        losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return MultiLabelScores(logits.numpy(), labels.numpy() > 0.5, self._threshold, losses.sum(dim=1).mean().item())


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _ratio(part: int, whole: int) -> float | None:
    return int(part) / int(whole) if whole else None


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.1f} %"


def _ends(found: dict[str, Any], key: str, before: str = "") -> str:
    low, high = found[f"{key}_low"], found[f"{key}_high"]
    return "no interval" if low is None or high is None else f"{before}{100 * low:.1f} to {100 * high:.1f}"
