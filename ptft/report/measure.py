"""What the one number is that a task is judged by, and how it is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def told_averages(described: Mapping[str, Any]) -> str:
    """What was averaged to get weights, with a comma before it; nothing for weights as trained.

    Args:
        described: `interpolated` and `souped` of a checkpoint's metadata, if any.
    """
    if seeds := described.get("souped"):
        return f", averaged over the seeds {', '.join(map(str, seeds))} (soup)"
    share = described.get("interpolated")
    return "" if share is None else f", {share:g} of the way from the start of finetuning to its end (WiSE-FT)"


def told_steps(count: int) -> str:
    """`1,200 steps`; a probe takes `1 step`."""
    return f"{count:,} step{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Measure:
    """A score with a 95 % interval, the higher the better.

    Attributes:
        key: in summary.json; with `_low` and `_high` the ends of its interval.
        name: for a sentence.
        is_share: in [0, 1] and shown as %; else a plain number.
        loss_axis, loss_told: the label of the loss's axis, and what the loss is.
        nouns: what the head has a row for: singular and plural.
        plural: of the name.
        guessing: what a guess is that looks at no image.
    """

    key: str
    name: str
    is_share: bool
    loss_axis: str
    loss_told: str
    nouns: tuple[str, str] = ("class", "classes")
    plural: str = "accuracies"
    guessing: str = "naming the most common class always"

    @property
    def title(self) -> str:
        """The name at the beginning of a sentence."""
        return self.name[0].upper() + self.name[1:] if self.name == self.name.lower() else self.name

    @property
    def axis(self) -> str:
        """Label of an axis."""
        return f"{self.name} (%)" if self.is_share else self.name

    @property
    def factor(self) -> int:
        """Of the numbers on that axis."""
        return 100 if self.is_share else 1

    def outputs(self, number: int) -> str:
        """`10 classes`."""
        return f"{number:,} {self.nouns[number != 1]}"

    def shown(self, value: float | None) -> str:
        """`91.2 %` or `0.731`; a dash for None."""
        if value is None:
            return "–"
        return f"{100 * value:.1f} %" if self.is_share else f"{value:.3f}"

    def ends(self, scores: Mapping[str, Any]) -> str:
        """`90.0 to 92.4 %`."""
        low, high = scores.get(f"{self.key}_low"), scores.get(f"{self.key}_high")
        if low is None or high is None:
            return "no interval"
        return f"{100 * low:.1f} to {100 * high:.1f} %" if self.is_share else f"{low:.3f} to {high:.3f}"

    def interval(self, scores: Mapping[str, Any]) -> str:
        """`90.0 to 92.4 %, n = 2,000`."""
        return f"{self.ends(scores)}, n = {scores['num_examples']:,}"


ACCURACY = Measure("top1", "accuracy", True, "loss (nats)", "Loss: mean cross-entropy in nats.")
MEAN_AVERAGE_PRECISION = Measure(
    "map",
    "mAP",
    True,
    "loss (nats)",
    "Loss: cross-entropy in nats, summed over the classes.",
    plural="mAPs",
    guessing="ranking the images at random",
)
R_SQUARED = Measure(
    "r2",
    "R²",
    False,
    "loss",
    "Loss: half the squared error in standard deviations, summed over the targets.",
    ("target", "targets"),
    plural="R²",
    guessing="the mean of the images, always",
)
