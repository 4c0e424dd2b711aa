"""From the files of the runs that are compared to the numbers of the comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from ptft.compare.cells import Cell, Setting, curve_of, rightness_of
from ptft.compare.comparison import ArmResult, Comparison, Gain, Point
from ptft.compare.design import Arm, Labels
from ptft.compare.learning_rates import Choice, Place, chosen_cells
from ptft.compare.plan import Plan
from ptft.compare.verdict import steps_to_reach, verdict_of, verdicts_together, worth_of
from ptft.proof.leak import LeakCheck
from ptft.proof.mcnemar import mcnemar
from ptft.proof.paired import OF_ACCURACY
from ptft.proof.spread import spread_of


@dataclass(frozen=True)
class _Outcome:
    """What the seeds of one arm at one number of labels gave.

    Attributes:
        right: whether each seed was right on each test image, bool (S, N).
        curve: step and mean validation top1 over the seeds.
    """

    right: np.ndarray
    curve: Sequence[tuple[int, float]]

    @classmethod
    def read(cls, setting: Setting, cells: Sequence[Cell]) -> "_Outcome":
        curves = zip(*(curve_of(setting, cell) for cell in cells), strict=True)
        curve = [(looks[0][0], fmean(top1 for _, top1 in looks)) for looks in curves]
        return cls(np.stack([rightness_of(setting, cell) for cell in cells]), curve)


def judge(found: Plan, choices: Mapping[Place, Choice], leak: LeakCheck | None, command: str) -> Comparison:
    """The comparison, a function of the files of the chosen cells alone.

    Args:
        found: what was run.
        choices: the learning rates chosen.
        leak: what the search for seen test images found.
        command: as typed.
    """
    setting = found.setting
    outcomes = {
        place: _Outcome.read(setting, chosen_cells(setting, place, choice)) for place, choice in choices.items()
    }
    baseline = [
        (found.num_labels[labels] / len(found.classes), float(outcomes["random", labels].right.mean()))
        for labels in setting.budgets
    ]
    arms = {
        place: ArmResult(
            choice=choices[place],
            top1=spread_of(_by_source(setting, outcome.right * 1.0), OF_ACCURACY),
            top1_of_seeds=outcome.right.mean(axis=1).tolist(),
            curve=outcome.curve,
            num_steps=setting.num_steps(chosen_cells(setting, place, choices[place])[0]),
            gain=None if place[0] == "random" else _gain(setting, outcomes["random", place[1]], outcome, baseline),
        )
        for place, outcome in outcomes.items()
    }
    return Comparison(
        command=command,
        sources=[str(source) for source in setting.sources],
        data=found.origin,
        classes=found.classes,
        num_validation=found.num_validation,
        num_test=next(iter(outcomes.values())).right.shape[1],
        charged_steps=setting.charged_steps,
        points=_points(found, arms),
        leak=leak,
        config=setting.config.model_dump(mode="json"),
    )


def _by_source(setting: Setting, values: np.ndarray) -> np.ndarray:
    """Values (S, N) of S seeds as (sources, N) means over the seeds that share a source; as they are with a single one.

    Seeds that share a source share its luck: they are one draw of the pretraining, not several.
    """
    count = len(setting.sources)
    return values if count == 1 else values.reshape(-1, count, values.shape[1]).mean(axis=0)


def _gain(setting: Setting, baseline: _Outcome, outcome: _Outcome, curve: Sequence[tuple[float, float]]) -> Gain:
    """An arm against random weights.

    Args:
        setting: of the comparison.
        baseline: of random weights.
        outcome: of the arm.
        curve: labels of each class and accuracy of random weights with them.
    """
    tests = [mcnemar(*pair) for pair in zip(baseline.right, outcome.right, strict=True)]
    difference = spread_of(_by_source(setting, outcome.right * 1.0 - baseline.right))
    return Gain(
        difference=difference,
        verdict=verdict_of(difference),
        mcnemar=tests,
        p_value=min(1.0, 2 * median(test.p_value for test in tests)),
        steps_to_baseline=steps_to_reach(baseline.curve[-1][1], outcome.curve),
        worth=worth_of(float(outcome.right.mean()), curve),
    )


def _points(found: Plan, arms: Mapping[Place, ArmResult]) -> list[Point]:
    gains = {labels: arms["pretrained", labels].gain for labels in found.setting.budgets}
    verdicts = verdicts_together([gain.difference for gain in gains.values() if gain is not None])
    return [
        Point(labels, found.num_labels[labels], _of_labels(arms, labels), verdict)
        for labels, verdict in zip(gains, verdicts, strict=True)
    ]


def _of_labels(arms: Mapping[Place, ArmResult], labels: Labels) -> dict[Arm, ArmResult]:
    return {place[0]: arm for place, arm in arms.items() if place[1] == labels}
