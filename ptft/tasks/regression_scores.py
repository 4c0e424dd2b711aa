"""What predicted numbers are worth: mean absolute error and R² of each target."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptft.config.wording import rounded
from ptft.data.labelling import Scale
from ptft.tasks.resampling import intervals


@dataclass(frozen=True)
class RegressionScores:
    """Scores of N images and K targets.

    Attributes:
        targets: names.
        predicted, truth: float64 (N, K), in the targets' own units.
        scale: mean and standard deviation of each target over the training images.
    """

    targets: Sequence[str]
    predicted: np.ndarray
    truth: np.ndarray
    scale: Scale

    @property
    def num_examples(self) -> int:
        return len(self.truth)

    @property
    def loss(self) -> float:
        """Mean over the images of half the squared error in standard deviations, summed over the targets."""
        errors = (self.predicted - self.truth) / np.asarray(self.scale.std)
        return float(np.square(errors).sum(axis=1).mean() / 2)

    @property
    def merit(self) -> float:
        """Mean R² of the targets."""
        return float(self._values[0])

    def merits(self) -> np.ndarray:
        """What each image adds to mean R², float64 (N,) in [-1, 1].

        No squared error counts more than twice the variance of its target: one image far off says little of the others.
        """
        errors = np.square(self.predicted - self.truth) / self.truth.var(axis=0).clip(min=1e-30)
        merits: np.ndarray = 1 - np.nan_to_num(errors, nan=np.inf).clip(max=2).mean(axis=1)
        return merits

    def summary(self) -> dict[str, Any]:
        """Mean R², and the mean absolute error of each target, with 95 % bootstrap intervals."""
        line = {"loss": self.loss, **self._entry("r2", 0)}
        for index, name in enumerate(self.targets):
            line |= self._entry(f"mae_{name}", 1 + index)
        return line | {"num_examples": self.num_examples}

    def details(self, classes: Sequence[str]) -> dict[str, Any]:
        """Per target."""
        return {"per_target": self.per_target()}

    def ancestry(self) -> dict[str, Any]:
        return {"score": self.sentence()}

    def short(self) -> str:
        """`R² 0.731`."""
        return f"R² {self.merit:.3f}"

    def sentence(self) -> str:
        """`R² 0.731 (95 % interval 0.702 to 0.758), MAE of age 4.21 (4.02 to 4.4), n = 2,000`."""
        found = self.summary()
        mean = "mean R²" if len(self.targets) > 1 else "R²"
        told = [f"{mean} {found['r2']:.3f} (95 % interval {found['r2_low']:.3f} to {found['r2_high']:.3f})"]
        for name in self.targets:
            value, low, high = (found[f"mae_{name}{end}"] for end in ("", "_low", "_high"))
            told.append(f"MAE of {name} {rounded(value, 3)} ({rounded(low, 3)} to {rounded(high, 3)})")
        return ", ".join([*told, f"n = {self.num_examples:,}"])

    def per_target(self) -> list[dict[str, Any]]:
        """MAE and R² with 95 % intervals of each target; beside them what the training mean alone would give.

        `mae_of_mean` is the mean absolute error of predicting the mean of the training images always.
        """
        count = len(self.targets)
        baseline = np.abs(self.truth - np.asarray(self.scale.mean)).mean(axis=0)
        squares = np.square(self.predicted - self.truth).mean(axis=0)
        return [
            {
                "target": name,
                "num_examples": self.num_examples,
                **self._entry("mae", 1 + index),
                **self._entry("r2", 1 + count + index),
                "rmse": float(np.sqrt(squares[index])),
                "mae_of_mean": float(baseline[index]),
                "mean": float(self.truth[:, index].mean()),
                "low": float(self.truth[:, index].min()),
                "high": float(self.truth[:, index].max()),
            }
            for index, name in enumerate(self.targets)
        ]

    def _entry(self, name: str, index: int) -> dict[str, float]:
        low, high = self._intervals[index].tolist()
        return {name: float(self._values[index]), f"{name}_low": low, f"{name}_high": high}

    @cached_property
    def _values(self) -> np.ndarray:
        return self._statistic(np.ones(self.num_examples, np.int64))

    @cached_property
    def _intervals(self) -> np.ndarray:
        return intervals(self._statistic, *self.truth.shape)

    def _statistic(self, counts: np.ndarray) -> np.ndarray:
        """Mean R², mean absolute errors, R²s: float64 (1 + 2 K,), of images that count so often."""
        errors = self.predicted - self.truth
        absolute = counts @ np.abs(errors) / counts.sum()
        mean = counts @ self.truth / counts.sum()
        residual, spread = counts @ np.square(errors), counts @ np.square(self.truth - mean)
        # A target that never changes here: scikit-learn's convention, 1 for no error at all and else 0.
        r2 = np.where(spread > 0, 1 - residual / np.where(spread > 0, spread, 1), np.where(residual > 0, 0.0, 1.0))
        return np.concatenate([[r2.mean()], absolute, r2])


class RegressionTally:
    """Keeps all predictions.

    Args:
        targets: names.
        scale: that the logits are standardised by.
    """

    def __init__(self, targets: Sequence[str], scale: Scale) -> None:
        self._targets = targets
        self._scale = scale
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Keeps one batch: logits float (B, K), standardised, and labels float64 (B, K) in their own units."""
        self._logits.append(logits)
        self._labels.append(labels)

    def scores(self) -> RegressionScores:
        """Of all batches added so far; at least one."""
        predicted = self._scale.restore(torch.cat(self._logits).cpu().double())
        return RegressionScores(self._targets, predicted.numpy(), torch.cat(self._labels).cpu().numpy(), self._scale)
