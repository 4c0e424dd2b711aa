"""Checkpoints in order of their worth for a target, with what can and what cannot be told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ptft.proof.paired import Difference, paired_difference
from ptft.proof.scores.worth import Worth

Verdict = Literal["use", "cannot tell", "none"]

SMALLEST_DIFFERENCE = 0.02
"""In error of the probe. Of two sources in scripts/bench/score.py that differ by less, either may be the better after
finetuning, however many images say that they differ."""


@dataclass(frozen=True)
class Measured:
    """One checkpoint's scores, and those of random weights in the same model.

    Attributes:
        path: of the checkpoint, as the user typed it.
        digest: the checkpoint's; None where it has none.
        model: name of its architecture.
        image_size: side in pixels of the images it was given.
        worth: of its features.
        random: of the features of random weights, the best of several draws, for the same images.
    """

    path: Path
    digest: str | None
    model: str
    image_size: int
    worth: Worth
    random: Worth


@dataclass(frozen=True)
class Place:
    """A checkpoint in the ranking; differences are in error of the probe, on the same images.

    Attributes:
        measured: the checkpoint.
        over_random: by how much random weights err more.
        behind: by how much it errs more than the first; None for the first itself.
    """

    measured: Measured
    over_random: Difference
    behind: Difference | None

    @property
    def is_apart(self) -> bool:
        """Whether it is surely worse than the first."""
        return self.behind is not None and self.behind.low > SMALLEST_DIFFERENCE

    @property
    def is_better_than_random(self) -> bool:
        """Whether it surely is."""
        return self.over_random.low > SMALLEST_DIFFERENCE

    def as_dict(self) -> dict[str, Any]:
        """Plain Python."""
        measured = self.measured
        return {
            "checkpoint": str(measured.path),
            "digest": measured.digest,
            "model": measured.model,
            "image_size": measured.image_size,
            **measured.worth.as_dict(),
            "random": measured.random.as_dict(),
            "over_random": _as_dict(self.over_random),
            "is_better_than_random": self.is_better_than_random,
            "behind": None if self.behind is None else _as_dict(self.behind),
        }


@dataclass(frozen=True)
class Ranking:
    """The answer of `ptft score`.

    Attributes:
        places: best first.
        confidence: of each interval of a difference; high enough for those of the first to hold together with 95 %.
    """

    places: Sequence[Place]
    confidence: float

    @property
    def best(self) -> Place:
        """The first."""
        return self.places[0]

    @property
    def rivals(self) -> list[Place]:
        """Those that cannot be told from the first."""
        return [place for place in self.places[1:] if not place.is_apart]

    @property
    def verdict(self) -> Verdict:
        """`none` when not even the first is surely better than random weights."""
        if not self.best.is_better_than_random:
            return "none"
        return "cannot tell" if self.rivals else "use"

    def sentence(self) -> str:
        """The recommendation in words."""
        first = self.best.measured
        accuracies = f"a probe names {_percent(first.worth)} right, on those of random weights {_percent(first.random)}"
        if self.verdict == "none" and self.best.over_random.high < SMALLEST_DIFFERENCE:
            return f"none is better than random weights: on features of the first, {first.path}, {accuracies}."
        if self.verdict == "none":
            return (
                f"none is surely better than random weights: on features of the first, {first.path}, {accuracies}. "
                "More labelled images would tell."
            )
        if self.verdict == "use":
            return f"use {first.path}: better than random weights{self._others()}; on its features {accuracies}."
        names = ", ".join(str(place.measured.path) for place in self.rivals)
        return (
            f"cannot tell {first.path} from {names}: the difference is small or may be chance. The first is better "
            f"than random weights{self._others()}; on its features {accuracies}."
        )

    def _others(self) -> str:
        num_apart = sum(place.is_apart for place in self.places)
        return f" and than {num_apart} of {len(self.places) - 1} others" if num_apart else ""

    def as_dict(self) -> dict[str, Any]:
        """Plain Python for `--json` and a page."""
        return {
            "checkpoint": str(self.best.measured.path),
            "verdict": self.verdict,
            "sentence": self.sentence(),
            "confidence": self.confidence,
            "ranking": [place.as_dict() for place in self.places],
        }


def rank(measured: Sequence[Measured]) -> Ranking:
    """Orders checkpoints by error of the linear probe and compares them.

    Differences are taken image by image, as all scores are of the same images, with Student's interval of their mean.
    With n checkpoints each has the confidence 1 - 0.05/n (Bonferroni over the n on which the verdict rests: the first
    against random weights and against each other one): the first is chosen for erring least, and among many equal ones
    some would otherwise look better than random weights nearly always.

    Args:
        measured: at least one, all of the same images.
    """
    ordered = sorted(measured, key=lambda one: one.worth.probe.error)
    first = ordered[0]
    confidence = 1 - 0.05 / len(ordered)

    def excess(better: Worth, worse: Worth) -> Difference:
        return paired_difference(better.probe.errors.tolist(), worse.probe.errors.tolist(), confidence)

    places = [
        Place(one, excess(one.worth, one.random), None if one is first else excess(first.worth, one.worth))
        for one in ordered
    ]
    return Ranking(places, confidence)


def told(difference: Difference) -> str:
    """`+0.210 (+0.120 to +0.300)`."""
    return f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def _percent(worth: Worth) -> str:
    return f"{100 * worth.probe.top1:.1f} %"


def _as_dict(difference: Difference) -> dict[str, float]:
    return {"mean": difference.mean, "low": difference.low, "high": difference.high}
