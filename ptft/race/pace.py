"""How many steps the races may take, and how they are shared out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ptft.data.task import Format
from ptft.models.classifier import Classifier
from ptft.race.racers import Racer, count_runners
from ptft.transfer.recipes import RaceConfig

_FLOP = 3e13
_LEAST_SHARE, _MOST_TIMES = 0.5, 10
_FEWEST = 10
"""Steps below which a race says nothing."""
_LONGER = 4
"""Times as long as the first race is the second."""
FEWEST_OF_A_RUN = _LONGER * _FEWEST
"""Steps of a run below which its races, at most a quarter as long, would say nothing."""


@dataclass(frozen=True)
class Pace:
    """The steps of the races.

    Attributes:
        racers: of the first race, the probe among them where it takes part.
        num_folds: that each racer runs on.
        first: steps of each in the first race.
        last: in the second, of the best of each recipe and its next lower learning rate; 0 for no second race.
    """

    racers: Sequence[Racer]
    num_folds: int
    first: int
    last: int

    @property
    def num_steps(self) -> int:
        """Most of both races together; the probe is solved, which takes none."""
        return self.num_folds * (_num_running(self.racers) * self.first + _num_going_on(self.racers) * self.last)


def allowance(
    config: RaceConfig, classifier: Classifier, format_: Format, batch_size: int, num_steps: int, is_timed: bool = False
) -> int:
    """Most steps of all races together.

    Args:
        config: a budget in it decides.
        classifier: to count the operations of; a step is three forward passes (Kaplan et al. 2020, section 2.1).
        format_: of its images.
        batch_size: global.
        num_steps: of the run.
        is_timed: whether the run ends by the clock: then half of its steps may be any time.
    """
    if config.budget is not None:
        return round(config.budget * num_steps)
    device = next(classifier.parameters()).device
    image = torch.zeros(1, format_.in_channels, format_.image_size, format_.image_size, device=device)
    was_training = classifier.training
    with _FlopCount() as counter, torch.no_grad():
        classifier.eval()(image)
    classifier.train(was_training)
    affordable = int(_FLOP / (3 * counter.total * batch_size))
    least = 0 if is_timed else round(_LEAST_SHARE * num_steps)
    return max(least, min(affordable, _MOST_TIMES * num_steps))


class _FlopCount(TorchFunctionMode):
    """Counts what `torch.utils.flop_counter` counts of a CNN, which imports torch's compiler for it: 1.5 s, 150 MB.

    Attributes:
        total: multiplications and additions of all convolutions and linear layers inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (functional.conv2d, functional.linear):  # weight (out, in, …)
            self.total += 2 * result.numel() * args[1][0].numel()
        return result


def pace(racers: Sequence[Racer], num_folds: int, allowed: int, num_steps: int) -> Pace | None:
    """The races that fit; None where the run is too short for any, or not even those of recipe full could take ten
    steps each.

    A second race is four times as long as the first, at most as long as the run. Where steps are short there is one
    fold, then only recipe full and no second race.

    Args:
        racers: all that may take part.
        num_folds: as many as there are.
        allowed: see `allowance`.
        num_steps: of the run.
    """
    longest = num_steps // _LONGER
    if longest < _FEWEST:
        return None
    for folds in (num_folds, 1):
        first = min(allowed // (folds * (_num_running(racers) + _LONGER * _num_going_on(racers))), longest)
        if first >= _FEWEST:
            return Pace(racers, folds, first, min(_LONGER * first, num_steps))
    fewest = [racer for racer in racers if racer.recipe in (racers[0].recipe, "probe")]
    first = min(allowed // _num_running(fewest), num_steps)
    return Pace(fewest, 1, first, 0) if first >= _FEWEST else None


def _num_running(racers: Sequence[Racer]) -> int:
    return count_runners(racers).total()


def _num_going_on(racers: Sequence[Racer]) -> int:
    """At most two of each recipe."""
    return sum(min(count, 2) for count in count_runners(racers).values())
