"""The decision: who races, how far, who won, and the config that says so."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch

from ptft.config.durations import Duration
from ptft.data.task import Task
from ptft.models.classifier import Classifier
from ptft.race.folds import ENOUGH, Fold, folds_of
from ptft.race.nearness import measure_nearness
from ptft.race.pace import FEWEST_OF_A_RUN, Pace, allowance, pace
from ptft.race.racers import PROBE, Racer, count_runners, decided, racers_of
from ptft.race.results import Result, best_of_each, winner_of
from ptft.report.console import Console
from ptft.settings import FinetuneConfig
from ptft.tasks import SingleLabel
from ptft.train.evaluate import Predictions, predictions_of
from ptft.train.schedule import Schedules
from ptft.transfer.head import RowsKept
from ptft.transfer.interpolation import draw_back

_MANY = 200
"""Labels a class, beyond which LP-FT is bolder. Measured at 100, where bolder was better or worse, and at 900."""
Train = Callable[[FinetuneConfig, Task, Classifier], Classifier]
"""Trains a classifier, in place, by a resolved config on a task; gives the weights to use."""


@dataclass(frozen=True)
class Course:
    """What all races of a run share.

    Attributes:
        config: as the user gave it.
        resolved: the same with sizes, precision and memory format decided; its recipe and learning rate are not.
        task: the target.
        source: the classifier with the source's weights, as a finetuning would begin; copied, not changed.
        untrained: the same classifier with the random weights that recipe random would begin with; likewise.
        rows_kept: of how many of the target's classes the source's head has the rows.
        device: of both.
        train: runs a lap.
        console: told what is found.
        check_stop: raises when a signal asked to stop.
    """

    config: FinetuneConfig
    resolved: FinetuneConfig
    task: Task
    source: Classifier
    untrained: Classifier
    rows_kept: RowsKept
    device: torch.device
    train: Train
    console: Console
    check_stop: Callable[[], None]

    def racers(self) -> list[Racer]:
        """All that may race."""
        labels, task = len(self.task.train) / len(self.task.classes), self.config.task
        has_many_labels = isinstance(task, SingleLabel) and labels > _MANY
        return racers_of(self.config, has_own_head=self.rows_kept == "all", has_many_labels=has_many_labels)

    @property
    def num_steps(self) -> int:
        """Of the run."""
        return self.resolved.train.num_steps(len(self.task.train))


@dataclass(frozen=True)
class Decision:
    """What recipe auto chose.

    Attributes:
        config: the user's, with the choice written out.
        said: why, a sentence each.
    """

    config: FinetuneConfig
    said: tuple[str, ...]


def decide(course: Course) -> Decision:
    """Races and decides; a pure function of config, data and weights.

    Raises:
        StoppedError: a signal arrived; whoever starts again races again and decides the same.
    """
    config, console = course.config, course.console
    racers = course.racers()
    said: list[str] = []
    is_clear = False
    if isinstance(config.task, SingleLabel):
        near = measure_nearness(course.task, course.source, course.untrained, course.device, course.check_stop)
        said.append(f"auto: {near.sentence()}")
        is_clear = near.is_clear
    if is_clear:
        racers = [racer for racer in racers if racer.recipe != "random"]
    folds = folds_of(course.task, config.seed)
    found = plan_races(course, racers, len(folds))
    if not isinstance(found, Pace):
        choice = _unraced(course, racers)
        said.append(f"auto: {choice.name} without a race: {found}")
        console.say("\n".join(said))
        return Decision(decided(config, choice), tuple(said))
    config, told = _with_fewer_looks(course)
    said += told
    said.append(f"auto: {_plan_sentence(found, course.num_steps)}")
    console.say("\n".join(said))
    first, last = _run(course, found, folds[: found.num_folds])
    results = first if not last else last | {racer: first[racer] for racer in first if racer == PROBE}
    choice = winner_of(results, is_clear=is_clear, deviation=config.task.merit_deviation)
    _print(console, first, last)
    why = _choice_sentences(results, choice)
    console.say("\n".join(why))
    return Decision(decided(config, choice), (*said, *why))


def _with_fewer_looks(course: Course) -> tuple[FinetuneConfig, list[str]]:
    """The config with one look at validation, at the end, where it has too few images to choose a checkpoint by.

    The best of twenty looks at ten images is an early one as often as not.
    """
    config, held = course.config, course.task.parts.get("validation")
    if held is None or len(held) >= ENOUGH or config.train.evaluate_every is not None or config.train.patience:
        return config, []
    looks = {"evaluate_every": Duration(steps=course.num_steps)}
    told = f"auto: {len(held):,} validation images cannot tell checkpoints apart: the last one counts."
    return config.model_copy(update={"train": config.train.model_copy(update=looks)}), [told]


def told_without_racing(course: Course) -> tuple[FinetuneConfig, int]:
    """Says what `decide` would do, as far as that is known beforehand.

    Returns:
        A config that it may end with, and the most steps it would take.
    """
    config, console = course.config, course.console
    racers = course.racers()
    found = plan_races(course, racers, len(folds_of(course.task, config.seed)))
    if isinstance(found, Pace):
        console.say(f"auto: a run would race first: {_plan_sentence(found, course.num_steps)}")
    else:
        choice = _unraced(course, racers)
        console.say(f"auto: {choice.name} without a race: {found}")
        return decided(config, choice), 0
    return decided(config, Racer(racers[0].recipe, config.optim.lr)), found.num_steps


def _unraced(course: Course, racers: Sequence[Racer]) -> Racer:
    """Who runs where there is no race: LP-FT, which is least at the mercy of a learning rate nobody has tried.

    With one label a class it was 0 and 3 points ahead of full finetuning, with 20 from 1 point behind to 5 ahead
    (CIFAR-10 -> Fashion-MNIST, halves of CIFAR-10's classes; five draws). Rows of the source's head are kept.
    """
    calm = [racer for racer in racers if racer.recipe == "lp-ft" and course.rows_kept == "none"]
    return calm[0] if calm else Racer(racers[0].recipe, course.config.optim.lr)


def plan_races(course: Course, racers: Sequence[Racer], num_folds: int) -> Pace | str:
    """The races that the budget reaches for, or why there are none."""
    if not num_folds:
        return "no class has images to hold out."
    train, num_steps = course.resolved.train, course.num_steps
    if num_steps < FEWEST_OF_A_RUN:
        return f"the run has {num_steps:,} steps, and races need one of at least {FEWEST_OF_A_RUN}."
    race = course.config.transfer.race
    is_timed = train.max_minutes is not None
    allowed = allowance(race, course.source, course.task.format, train.batch_size or 1, num_steps, is_timed)
    return pace(racers, num_folds, allowed, num_steps) or (
        f"they may take {allowed:,} steps, too few. transfer.race.budget: 5.0 is 5 times the {num_steps:,} of the run."
    )


def _run(course: Course, found: Pace, folds: Sequence[Fold]) -> tuple[dict[Racer, Result], dict[Racer, Result]]:
    """Results of the first race, and of the second, which is empty where there is none."""
    with course.console.bar(found.num_steps, 0) as bar:
        laps = _Laps(course, folds, lambda steps, name: bar.update(steps, name))
        first = laps.results(found.racers, found.first)
        last = laps.results(best_of_each(first), found.last) if found.last else {}
    return first, last


class _Laps:
    """Runs racers on folds.

    Args:
        course: of the races.
        folds: that each racer runs on.
        tell: told the steps taken so far and the racer.
    """

    def __init__(self, course: Course, folds: Sequence[Fold], tell: Callable[[int, str], None]) -> None:
        self._course = course
        self._folds = folds
        self._tell = tell
        self._steps = 0
        self._probed: dict[int, Classifier] = {}

    def results(self, racers: Sequence[Racer], num_steps: int) -> dict[Racer, Result]:
        """What racers predict after laps of this many steps, those that differ in their share alone after the same."""
        found: dict[Racer, Result] = {}
        for runner, alike in groupby(racers, lambda racer: racer.runner):
            ways = list(alike)
            laps = [self._lap(runner, ways, place, num_steps) for place in range(len(self._folds))]
            for way, predictions in zip(ways, zip(*laps, strict=True), strict=True):
                found[way] = Result.of(self._course.config.task, self._course.task, predictions)
        return found

    def _lap(self, runner: Racer, ways: Sequence[Racer], place: int, num_steps: int) -> list[Predictions]:
        """Of each way."""
        course, fold = self._course, self._folds[place]
        start = self._start(runner, place)
        if runner == PROBE:
            return [self._predictions(start, fold)]
        # From the head that is solved here, LP-FT is full finetuning.
        like_full = replace(runner, recipe="full") if runner.recipe == "lp-ft" else runner
        trained = course.train(_lap_config(course, like_full, num_steps), fold.task, copy.deepcopy(start))
        self._steps += num_steps
        self._tell(self._steps, runner.name)
        return [self._predictions(_drawn_back(trained, start, way.share), fold) for way in ways]

    def _predictions(self, trained: Classifier, fold: Fold) -> Predictions:
        course = self._course
        return predictions_of(trained, fold.held, fold.task.format, course.device, course.check_stop)

    def _start(self, racer: Racer, place: int) -> Classifier:
        if racer.recipe == "random":
            return self._course.untrained
        return self._probe(place) if racer.recipe in ("probe", "lp-ft") else self._course.source

    def _probe(self, place: int) -> Classifier:
        """The source with the head solved on a fold's training images."""
        if place not in self._probed:
            course = self._course
            precision = {key: getattr(course.config.train, key) for key in ("precision", "memory_format")}
            config = _lap_config(course, PROBE, 1)
            config = config.model_copy(update={"train": config.train.model_copy(update=precision)})
            self._probed[place] = course.train(config, self._folds[place].task, copy.deepcopy(course.source))
        return self._probed[place]


def _drawn_back(trained: Classifier, start: Classifier, share: float) -> Classifier:
    if share == 1:
        return trained
    drawn = copy.deepcopy(trained)
    draw_back(drawn, start.state_dict(), share)
    return drawn


def _lap_config(course: Course, racer: Racer, num_steps: int) -> FinetuneConfig:
    config = decided(course.resolved, racer)
    length = {"steps": num_steps, "epochs": None, "examples": None, "patience": None, "compile": False}
    sections = {
        "train": config.train.model_copy(update=length),
        "schedule": _lap_schedule(course, num_steps),
        "transfer": config.transfer.model_copy(update={"interpolate": False, "soup": None}),
    }
    return config.model_copy(update=sections)


def _lap_schedule(course: Course, num_steps: int) -> Schedules:
    """The run's schedule, its warmup as much shorter as the lap is: a whole one could be all there is of a lap."""
    schedule, train = course.resolved.schedule, course.resolved.train
    if schedule.warmup is None:
        return schedule
    whole = schedule.build(course.num_steps, len(course.task.train), train.batch_size or 1).warmup_steps
    return schedule.model_copy(update={"warmup": Duration(steps=round(whole * num_steps / course.num_steps))})


def _plan_sentence(found: Pace, num_steps: int) -> str:
    count = count_runners(found.racers).total()
    who = f"{count} racer{'s' if count > 1 else ''}{' and the probe' if PROBE in found.racers else ''}"
    where = f"{found.num_folds} folds of the training images" if found.num_folds > 1 else "images held out"
    second = f", then {found.last:,} for the best of each recipe and its next lower lr" if found.last else ""
    return (
        f"{who} on {where}, {found.first:,} steps each{second}: at most {found.num_steps:,} steps in all, the run has "
        f"{num_steps:,}. Set transfer.race.budget for fewer, or a recipe for none."
    )


def _print(console: Console, first: Mapping[Racer, Result], last: Mapping[Racer, Result]) -> None:
    columns = ["racer", "on held-out images", *(["after the second race"] if last else [])]
    rows = [
        [racer.name, result.told, *([last[racer].told if racer in last else ""] if last else [])]
        for racer, result in first.items()
    ]
    console.table(columns, rows)


def _choice_sentences(results: Mapping[Racer, Result], choice: Racer) -> list[str]:
    others = ", ".join(f"{racer.name}: {result.told}" for racer, result in results.items() if racer != choice)
    beside = f" ({others})" if others else ""
    keys = "" if choice.lr is None else f", optim.lr: {choice.lr:g}"
    keys += f", transfer.interpolate: {choice.share:g}" if choice.share < 1 else ""
    chosen = results[choice]
    plural = "s" if chosen.num_images > 1 else ""
    said = [
        f"auto: chose {choice.name}: {chosen.told} on {chosen.num_images:,} held-out image{plural}{beside}. In "
        f"config.yaml: transfer.recipe: {choice.recipe}{keys}."
    ]
    if choice.recipe == "random":
        said.append(
            "auto: random weights win clearly: the source's weights are set aside. transfer.race.random_weights: false "
            "forbids it."
        )
    return said
