"""Checkpoints in order of their worth for a target, with what can and what cannot be told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ptft.proof.paired import Difference, paired_difference
from ptft.proof.scores.worth import Worth

Verdict = Literal["use", "cannot tell", "none"]


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
    """A checkpoint in the ranking; differences are in LogME, on the same images.

    Attributes:
        measured: the checkpoint.
        over_random: what it has over random weights.
        behind: what it lacks against the first; None for the first itself.
    """

    measured: Measured
    over_random: Difference
    behind: Difference | None

    @property
    def is_apart(self) -> bool:
        """Whether it is surely worse than the first."""
        return self.behind is not None and self.behind.high < 0

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
            "over_random": _as_dict(self.over_random) | {"verdict": self.over_random.verdict},
            "behind": None if self.behind is None else _as_dict(self.behind),
        }


@dataclass(frozen=True)
class Ranking:
    """The answer of `ptft score`.

    Attributes:
        places: best first.
        confidence: of every single interval of a difference; high enough for all of them to hold together with 95 %.
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
        if self.best.over_random.low <= 0:
            return "none"
        return "cannot tell" if self.rivals else "use"

    def sentence(self) -> str:
        """The recommendation in words."""
        first = self.best.measured
        gain = f"LogME {told(self.best.over_random)}, probe {_percent(first.worth)} against {_percent(first.random)}"
        if self.verdict == "none":
            return f"none is surely better than random weights: the first, {first.path}, has {gain}."
        if self.verdict == "use":
            return f"use {first.path}: better than random weights ({gain})" + self._distance() + "."
        names = ", ".join(str(place.measured.path) for place in self.rivals)
        return f"cannot tell {first.path} from {names}: the difference may be chance. More labelled images would tell."

    def _distance(self) -> str:
        if len(self.places) == 1:
            return ""
        names = "the other" if len(self.places) == 2 else f"all {len(self.places) - 1} others"
        return f" and than {names}"

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
    """Orders checkpoints by LogME and compares them.

    Differences are taken image by image, as all scores are of the same images, with Student's interval of their mean.
    Of n intervals each has the confidence 1 - 0.05/n (Bonferroni): the first is chosen for being the highest, and
    among many equal ones some would otherwise look better than random weights nearly always.

    Args:
        measured: at least one, all of the same images.
    """
    ordered = sorted(measured, key=lambda one: one.worth.logme, reverse=True)
    first = ordered[0]
    confidence = 1 - 0.05 / (2 * len(ordered) - 1)

    def difference(before: Worth, after: Worth) -> Difference:
        pair = before.evidence.of_images.tolist(), after.evidence.of_images.tolist()
        return paired_difference(*pair, confidence=confidence)

    places = [
        Place(one, difference(one.random, one.worth), None if one is first else difference(first.worth, one.worth))
        for one in ordered
    ]
    return Ranking(places, confidence)


def told(difference: Difference) -> str:
    """`+0.21 (+0.12 to +0.30)`."""
    return f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def _percent(worth: Worth) -> str:
    return f"{100 * worth.probe:.1f} %"


def _as_dict(difference: Difference) -> dict[str, float]:
    return {"mean": difference.mean, "low": difference.low, "high": difference.high}
