"""What predictions are worth: what all tasks' scores answer, and those of a classifier of one class an image: counts,
accuracy with its interval, per-class precision and recall.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

import torch
from torch import Tensor


def wilson_interval(successes: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion (Wilson 1927, equation for the score interval without continuity correction).

    Args:
        successes: in [0, trials]; a trial repeated and counted once may be a success in part.
        trials: at least 1.
        confidence: in (0, 1).

    Returns:
        Lower and upper bound in [0, 1].
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


class TaskScores(Protocol):
    """Scores on one part, of whatever task."""

    @property
    def loss(self) -> float:
        """Mean over the images of what training minimises, without smoothing, weights or mixing."""
        ...

    @property
    def num_examples(self) -> int:
        """Images behind them."""
        ...

    @property
    def merit(self) -> float:
        """What the best checkpoint is chosen by, the higher the better."""
        ...

    def summary(self) -> dict[str, Any]:
        """The numbers that fit in one line of metrics.jsonl, each with its interval."""
        ...

    def details(self, classes: Sequence[str]) -> dict[str, Any]:
        """What summary.json has besides, as plain Python."""
        ...

    def ancestry(self) -> dict[str, Any]:
        """What a checkpoint's lineage tells: fields of `ptft.checkpoint.Ancestor`."""
        ...

    def short(self) -> str:
        """The merit in a word or two."""
        ...

    def sentence(self) -> str:
        """The scores with intervals and n."""
        ...


class TaskTally(Protocol):
    """Adds up the scores of one part, batch by batch."""

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Counts one batch: float (B, K), and the labels of the task, on one device."""
        ...

    def scores(self) -> TaskScores:
        """Of all batches added so far; at least one."""
        ...


@dataclass(frozen=True)
class Scores:
    """A classifier's scores on one part.

    Attributes:
        confusion: int64 (K, K), rows are true classes, columns predicted ones.
        loss: mean cross-entropy in nats, without label smoothing or class weights.
        top5: share of images whose class is among the five most probable; None with fewer than 6 classes.
    """

    confusion: Tensor
    loss: float
    top5: float | None

    @property
    def num_examples(self) -> int:
        return int(self.confusion.sum())

    @property
    def num_correct(self) -> int:
        return int(self.confusion.diagonal().sum())

    @property
    def top1(self) -> float:
        """Share of images predicted right, in [0, 1]."""
        return self.num_correct / self.num_examples

    @property
    def merit(self) -> float:
        """top1."""
        return self.top1

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of top1."""
        return wilson_interval(self.num_correct, self.num_examples)

    def per_class(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Count, precision, recall and recall's 95 % interval of each class.

        Precision is None where a class was never predicted, recall and its ends where it has no image.
        """
        rows = []
        for index, name in enumerate(classes):
            right = int(self.confusion[index, index])
            true, predicted = int(self.confusion[index].sum()), int(self.confusion[:, index].sum())
            rows.append(
                {
                    "class": name,
                    "num_examples": true,
                    "precision": right / predicted if predicted else None,
                    "recall": right / true if true else None,
                    "recall_low": wilson_interval(right, true)[0] if true else None,
                    "recall_high": wilson_interval(right, true)[1] if true else None,
                }
            )
        return rows

    def summary(self) -> dict[str, Any]:
        """The numbers that fit in one line of metrics.jsonl."""
        low, high = self.interval
        line: dict[str, Any] = {"loss": self.loss, "top1": self.top1, "top1_low": low, "top1_high": high}
        if self.top5 is not None:
            line["top5"] = self.top5
            num_near = round(self.top5 * self.num_examples)
            line["top5_low"], line["top5_high"] = wilson_interval(num_near, self.num_examples)
        return line | {"num_examples": self.num_examples}

    def details(self, classes: Sequence[str]) -> dict[str, Any]:
        """Per class, and the confusion matrix (rows are true classes)."""
        return {"per_class": self.per_class(classes), "confusion": self.confusion.tolist()}

    def ancestry(self) -> dict[str, Any]:
        """top1."""
        return {"top1": self.top1}

    def short(self) -> str:
        """`91.2 %`."""
        return f"{100 * self.top1:.1f} %"

    def sentence(self) -> str:
        """`91.2 % right (95 % interval 90.0 to 92.4, n = 2,000)`."""
        low, high = self.interval
        return (
            f"{self.top1:.1%} right (95 % interval {100 * low:.1f} to {100 * high:.1f}, n = {self.num_examples:,})"
        ).replace("%", " %", 1)


class Tally:
    """Adds up scores batch by batch, on the device of the batches, without waiting for it.

    Args:
        num_classes: K.
        device: of the batches.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._num_classes = num_classes
        self._confusion = torch.zeros(num_classes**2, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._top5 = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Counts one batch.

        Args:
            logits: float (B, K).
            labels: int64 (B,).
        """
        cells = labels * self._num_classes + logits.argmax(dim=1)
        self._confusion.index_add_(0, cells, torch.ones_like(cells))
        self._loss += torch.nn.functional.cross_entropy(logits.double(), labels, reduction="sum")
        if self._num_classes > 5:
            self._top5 += (logits.topk(5, dim=1).indices == labels[:, None]).sum()

    def scores(self) -> Scores:
        """Scores of all batches added so far; at least one."""
        confusion = self._confusion.view(self._num_classes, -1).cpu()
        count = int(confusion.sum())
        top5 = int(self._top5) / count if self._num_classes > 5 else None
        return Scores(confusion, float(self._loss) / count, top5)
