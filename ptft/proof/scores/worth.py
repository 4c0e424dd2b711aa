"""All scores of one set of weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ptft.proof.scores.evidence import logme
from ptft.proof.scores.h_score import h_score
from ptft.proof.scores.neighbours import neighbours_right
from ptft.proof.scores.probe import Probe, probe
from ptft.train.metrics import wilson_interval


@dataclass(frozen=True)
class Worth:
    """How well a set of weights serves a task before any finetuning, by the features it gives N images.

    The probe's error ranks: it agreed best with accuracies after finetuning. The numbers, and on which of them it was
    chosen, are told by scripts/bench/score.py.

    Attributes:
        probe: of a cross-validated linear probe on the features of all stages, see `ptft.proof.stage_features`; the
            other scores are of the last features, as their papers have it.
        neighbours_right: which images their nearest neighbours name right; bool (N,).
        logme: log maximum evidence, nats a label; higher is better.
        h_score: regularised H-score; higher is better.
    """

    probe: Probe
    neighbours_right: np.ndarray
    logme: float
    h_score: float

    @property
    def neighbours(self) -> float:
        """Accuracy of the nearest neighbours, in [0, 1]."""
        return float(self.neighbours_right.mean())

    def as_dict(self) -> dict[str, Any]:
        """Plain Python; accuracies with their 95 % intervals."""
        return {
            "probe": {"error": self.probe.error, **accuracy(self.probe.right)},
            "neighbours": accuracy(self.neighbours_right),
            "logme": self.logme,
            "h_score": self.h_score,
        }


def measure(features: np.ndarray, stages: np.ndarray, labels: np.ndarray, *, seed: int) -> Worth:
    """Computes all scores.

    Args:
        features: float (N, D), finite; the last ones.
        stages: float (N, E), finite; of all stages.
        labels: int64 (N,), in [0, K).
        seed: of the folds.
    """
    return Worth(
        probe=probe(stages, labels, seed=seed),
        neighbours_right=neighbours_right(features, labels),
        logme=logme(features, labels),
        h_score=h_score(features, labels),
    )


def accuracy(right: np.ndarray) -> dict[str, float]:
    """Share of N images named right, with its 95 % interval."""
    low, high = wilson_interval(float(right.sum()), len(right))
    return {"top1": float(right.mean()), "top1_low": low, "top1_high": high}
