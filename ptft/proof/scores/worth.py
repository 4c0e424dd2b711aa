"""All scores of one set of features."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ptft.proof.scores.evidence import Evidence, evidence
from ptft.proof.scores.h_score import h_score
from ptft.proof.scores.neighbours import neighbours_right
from ptft.proof.scores.probe import probe_right
from ptft.train.metrics import wilson_interval


@dataclass(frozen=True)
class Worth:
    """How well a set of weights serves a task before any finetuning, by the features it gives N images.

    LogME ranks. Among the four it agreed best with accuracies after finetuning (scripts/bench/score.py), and it
    tells checkpoints apart with the fewest images: it weighs how sure each answer is, where a share of right answers
    throws that away.

    Attributes:
        evidence: LogME, in total and image by image.
        probe_right: which images a cross-validated linear probe names right; bool (N,).
        neighbours_right: which images their nearest neighbours name right; bool (N,).
        h_score: regularised H-score; higher is better.
    """

    evidence: Evidence
    probe_right: np.ndarray
    neighbours_right: np.ndarray
    h_score: float

    @property
    def logme(self) -> float:
        """Log maximum evidence, in nats a label; higher is better."""
        return self.evidence.logme

    @property
    def probe(self) -> float:
        """Accuracy of the linear probe, in [0, 1]."""
        return float(self.probe_right.mean())

    @property
    def neighbours(self) -> float:
        """Accuracy of the nearest neighbours, in [0, 1]."""
        return float(self.neighbours_right.mean())

    def as_dict(self) -> dict[str, Any]:
        """Plain Python; accuracies with their 95 % intervals."""
        return {
            "logme": self.logme,
            "probe": _accuracy(self.probe_right),
            "neighbours": _accuracy(self.neighbours_right),
            "h_score": self.h_score,
        }


def measure(features: np.ndarray, labels: np.ndarray, *, seed: int) -> Worth:
    """Computes all scores.

    Args:
        features: float (N, D), finite.
        labels: int64 (N,), in [0, K).
        seed: of the folds.
    """
    return Worth(
        evidence=evidence(features, labels),
        probe_right=probe_right(features, labels, seed=seed),
        neighbours_right=neighbours_right(features, labels),
        h_score=h_score(features, labels),
    )


def _accuracy(right: np.ndarray) -> dict[str, float]:
    low, high = wilson_interval(int(right.sum()), len(right))
    return {"top1": float(right.mean()), "top1_low": low, "top1_high": high}
