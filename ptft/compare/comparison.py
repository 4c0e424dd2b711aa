"""What a comparison found: the numbers of every point, its verdicts, and their words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptft.compare.design import Arm, Labels
from ptft.compare.learning_rates import Choice
from ptft.compare.verdict import HEADS, Verdict, Worth, overall_of
from ptft.proof.leak import LeakCheck
from ptft.proof.mcnemar import McNemar
from ptft.proof.spread import Spread

# The bootstrap over fewer gives too narrow an interval, see `paired_bootstrap`.
_FEW_TEST_IMAGES = 20


@dataclass(frozen=True)
class Gain:
    """An arm against random weights at one number of labels.

    Attributes:
        difference: of test accuracy, paired by seed and image.
        verdict: on it, taken alone.
        mcnemar: one test for each seed, random weights first.
        p_value: of the seeds' tests together: twice their median, valid however they depend on one another
            (Rüger 1978). It speaks of these networks; `difference` speaks of other seeds too.
        steps_to_baseline: step at which the arm's mean validation accuracy reaches that of random weights at their
            end; None when it never does.
        worth: labels that random weights would need; None with a single number of labels.
    """

    difference: Spread
    verdict: Verdict
    mcnemar: Sequence[McNemar]
    p_value: float
    steps_to_baseline: int | None
    worth: Worth | None

    def as_dict(self) -> dict[str, Any]:
        """Plain Python."""
        return {
            "difference": self.difference.as_dict(),
            "verdict": self.verdict,
            "mcnemar": [vars(test) for test in self.mcnemar],
            "mcnemar_p_value": self.p_value,
            "steps_to_baseline": self.steps_to_baseline,
            "worth_labels_per_class": None if self.worth is None else self.worth.as_dict(),
        }


@dataclass(frozen=True)
class ArmResult:
    """An arm at one number of labels.

    Attributes:
        choice: its learning rate.
        top1: test accuracy, over seeds and images.
        top1_of_seeds: of each seed.
        curve: step and mean validation top1 over the seeds.
        num_steps: of each run.
        gain: against random weights; None for these themselves.
    """

    choice: Choice
    top1: Spread
    top1_of_seeds: Sequence[float]
    curve: Sequence[tuple[int, float]]
    num_steps: int
    gain: Gain | None

    def as_dict(self) -> dict[str, Any]:
        """Plain Python."""
        return {
            "lr": self.choice.lr,
            "tried": [{"lr": lr, "validation_top1": top1} for lr, top1 in self.choice.tried.items()],
            "lr_is_at_edge": self.choice.is_at_edge,
            "num_steps": self.num_steps,
            "top1": self.top1.as_dict(),
            "top1_of_seeds": list(self.top1_of_seeds),
            "curve": [{"step": step, "validation_top1": top1} for step, top1 in self.curve],
            **({"gain": self.gain.as_dict()} if self.gain else {}),
        }


@dataclass(frozen=True)
class Point:
    """All arms at one number of labels.

    Attributes:
        labels: of each class.
        num_labels: of all classes.
        arms: random weights first.
        verdict: on `pretrained`, allowing for all points looked at.
    """

    labels: Labels
    num_labels: int
    arms: Mapping[Arm, ArmResult]
    verdict: Verdict

    @property
    def gain(self) -> Gain:
        """Of the pretrained arm."""
        gain = self.arms["pretrained"].gain
        assert gain is not None
        return gain

    def as_dict(self) -> dict[str, Any]:
        """Plain Python."""
        return {
            "labels_per_class": self.labels,
            "num_labels": self.num_labels,
            "verdict": self.verdict,
            "arms": {name: arm.as_dict() for name, arm in self.arms.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """What `ptft compare` found.

    Attributes:
        command: as typed.
        sources: of the pretrained weights; several are one pretraining, repeated.
        data: phrase for the target's images.
        classes: of the target.
        num_validation, num_test: images that chose the learning rates, and that everything else is about.
        charged_steps: steps that random weights got in addition.
        points: labels rising.
        leak: test images that the source or the target's training part shows too; None where nobody looked.
        config: resolved.
    """

    command: str
    sources: Sequence[str]
    data: str
    classes: Sequence[str]
    num_validation: int
    num_test: int
    charged_steps: int
    points: Sequence[Point]
    leak: LeakCheck | None
    config: Mapping[str, Any]

    @property
    def verdict(self) -> Verdict:
        """On all points together."""
        return overall_of([point.verdict for point in self.points])

    def sentence(self) -> str:
        """`pretraining helped: +8.1 points (95 % interval +5.0 to +11.2) at 5 labels a class; …`."""
        return ". ".join(filter(None, [f"{HEADS[self.verdict]}: {self.clauses()}", self.caution()]))

    def clauses(self) -> str:
        """The sentence without its head: each point, with its own verdict where that is another."""
        parts = []
        for point in self.points:
            own = "" if point.verdict == self.verdict else f", {point.verdict}"
            parts.append(f"{told(point.gain.difference)} at {per_class(point.labels)}{own}")
        return "; ".join(parts)

    def caution(self) -> str:
        """What to bear in mind where the test images are few: resampled, so few stand for no others; else empty."""
        if self.num_test >= _FEW_TEST_IMAGES:
            return ""
        return f"n = {self.num_test} test images are few: neither interval nor verdict knows of others."

    def as_dict(self) -> dict[str, Any]:
        """Plain Python for compare.json and `--json`."""
        return {
            "verdict": self.verdict,
            "sentence": self.sentence(),
            "command": self.command,
            "sources": list(self.sources),
            "data": self.data,
            "classes": list(self.classes),
            "num_validation": self.num_validation,
            "num_test": self.num_test,
            "charged_steps": self.charged_steps,
            "leak": None if self.leak is None else self.leak.as_dict(),
            "points": [point.as_dict() for point in self.points],
            "config": dict(self.config),
        }


def told(difference: Spread) -> str:
    """`+8.1 points (95 % interval +5.0 to +11.2)`."""
    interval = difference.interval("+.1f")
    note = f"95 % interval {interval}" if interval else "a single seed: no interval"
    return f"{100 * difference.mean:+.1f} points ({note})"


def per_class(labels: Labels) -> str:
    """`5 labels a class`, `all labels`."""
    return "all labels" if labels == "all" else f"{labels} {'label' if labels == 1 else 'labels'} a class"


def as_good_at(name: Arm, arm: ArmResult, gain: Gain) -> str:
    """The step at which an arm is as good as random weights at their end, in words; a probe takes no steps."""
    if gain.steps_to_baseline is None:
        return "never"
    return "at once" if name == "probe" else f"{gain.steps_to_baseline:,} of {arm.num_steps:,}"
