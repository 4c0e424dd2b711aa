"""From the numbers of a comparison to words: helped, hurt, within noise, too few seeds to tell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ptft.proof.spread import Spread, holm

Verdict = Literal["helped", "hurt", "within noise", "too few seeds to tell", "mixed"]

HEADS: dict[Verdict, str] = {
    "helped": "pretraining helped",
    "hurt": "pretraining hurt (negative transfer)",
    "mixed": "pretraining helped at some numbers of labels and hurt at others",
    "within noise": "the difference is within noise",
    "too few seeds to tell": "too few seeds to tell",
}
"""The verdict as a sentence begins with it."""

_FEWEST_SEEDS = 3
_CLEAR_LEVEL = 0.01


def verdict_of(difference: Spread) -> Verdict:
    """The verdict on one difference, taken alone.

    `too few seeds to tell` is said below 3 seeds; with more, where the interval holds 0 only because the seeds are
    so few: the same spread known from many would exclude 0 with 99 % confidence. From 6 seeds on that cannot be.
    """
    if difference.num_seeds < _FEWEST_SEEDS or difference.low is None or difference.high is None:
        return "too few seeds to tell"
    if difference.low > 0:
        return "helped"
    if difference.high < 0:
        return "hurt"
    is_clear = difference.p_value_of_many is not None and difference.p_value_of_many < _CLEAR_LEVEL
    return "too few seeds to tell" if is_clear else "within noise"


def verdicts_together(differences: Sequence[Spread]) -> list[Verdict]:
    """Verdicts that hold together: with several looks one may seem clear by chance, which Holm's correction allows for.

    A difference that is clear alone and no longer clear among the others is within noise.
    """
    alone = [verdict_of(difference) for difference in differences]
    clear = holm([1.0 if difference.p_value is None else difference.p_value for difference in differences])
    return [
        "within noise" if verdict in ("helped", "hurt") and not is_clear else verdict
        for verdict, is_clear in zip(alone, clear, strict=True)
    ]


def overall_of(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of those that hold together: `mixed` when it helped at some and hurt at others."""
    found = set(verdicts)
    if {"helped", "hurt"} <= found:
        return "mixed"
    order: tuple[Verdict, ...] = ("helped", "hurt", "too few seeds to tell", "within noise")
    return next(verdict for verdict in order if verdict in found)


@dataclass(frozen=True)
class Worth:
    """How many labels of each class random weights would need for the same accuracy.

    Attributes:
        labels: of each class.
        bound: `more` when even the most labels that were tried are not enough, `fewer` when the fewest are too
            many; else empty.
    """

    labels: float
    bound: Literal["", "more", "fewer"] = ""

    def __str__(self) -> str:
        sign = {"": "about ", "more": "more than ", "fewer": "fewer than "}[self.bound]
        return f"{sign}{self.labels:,.0f}"

    def as_dict(self) -> dict[str, Any]:
        """Plain Python."""
        return {"labels": self.labels, "bound": self.bound}


def worth_of(top1: float, curve: Sequence[tuple[float, float]]) -> Worth | None:
    """The labels at which a curve reaches an accuracy, interpolated on the logarithm of the labels.

    Args:
        top1: the accuracy to reach.
        curve: labels of each class, rising, and mean accuracy; where accuracy falls, the greater one before counts.

    Returns:
        None for a curve of one point, between whose labels nothing can be interpolated.
    """
    if len(curve) < 2:
        return None
    fewest, reached = curve[0]
    if top1 < reached:
        return Worth(fewest, "fewer")
    before = fewest
    for labels, accuracy in curve[1:]:
        if accuracy >= top1:
            share = (top1 - reached) / (accuracy - reached) if accuracy > reached else 0.0
            return Worth(math.exp(math.log(before) + share * (math.log(labels) - math.log(before))))
        if accuracy > reached:
            before, reached = labels, accuracy
    return Worth(curve[-1][0], "more")


def steps_to_reach(top1: float, curve: Sequence[tuple[int, float]]) -> int | None:
    """The first step of a validation curve, steps rising, at which it is at least `top1`; None when it never is."""
    return next((step for step, accuracy in curve if accuracy >= top1), None)
