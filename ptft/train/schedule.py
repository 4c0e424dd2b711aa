"""Learning-rate schedules: the factor on the peak learning rate as a function of the step alone."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator

from ptft.config.base import Config
from ptft.config.durations import Duration


@dataclass(frozen=True)
class Schedule:
    """A schedule whose durations are known in steps.

    Attributes:
        shape: the component that gives the factor after the warmup.
        warmup_steps: the factor rises linearly from 1/warmup_steps to 1 over these.
        num_steps: all steps of the run.
    """

    shape: "ScheduleConfig"
    warmup_steps: int
    num_steps: int

    def factor(self, step: int) -> float:
        """Factor in [0, 1] for the step counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return self.shape.factor((step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps))


class ScheduleConfig(Config):
    """Base of the components in `Schedules`; each adds a literal `name` and its shape."""

    warmup: Duration | None = None
    """Linear rise at the start; one of steps, epochs, examples. Default: a tenth of the run, at most 5 epochs."""

    @abstractmethod
    def factor(self, done: float) -> float:
        """Factor in [0, 1] when `done` in [0, 1) of the steps after the warmup are completed."""

    def build(self, num_steps: int, num_examples: int, batch_size: int) -> Schedule:
        """The schedule of a run of `num_steps`."""
        if self.warmup is None:
            warmup_steps = min(num_steps // 10, math.ceil(5 * num_examples / batch_size))
        else:
            warmup_steps = min(self.warmup.to_steps(num_examples, batch_size), num_steps)
        return Schedule(self, warmup_steps, num_steps)


class Cosine(ScheduleConfig):
    """Half a cosine from the peak to zero (Loshchilov & Hutter 2017, without restarts); the default."""

    name: Literal["cosine"] = "cosine"

    def factor(self, done: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * done))


class Linear(ScheduleConfig):
    """Straight from the peak to zero."""

    name: Literal["linear"]

    def factor(self, done: float) -> float:
        return 1 - done


class StepDecay(ScheduleConfig):
    """Constant, multiplied by `gamma` at each milestone."""

    name: Literal["step"]
    milestones: tuple[float, ...] = Field((0.5, 0.75), strict=False)
    """Fractions of the run after the warmup, rising, each in (0, 1)."""
    gamma: float = Field(0.1, gt=0, lt=1)
    """Factor at each milestone."""

    @field_validator("milestones")
    @classmethod
    def _fractions(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if not milestones or not all(0 < milestone < 1 for milestone in milestones):
            raise ValueError("each is a fraction of the run, above 0 and below 1, for example [0.5, 0.75]")
        if any(second <= first for first, second in pairwise(milestones)):
            raise ValueError("they must rise, for example [0.5, 0.75]")
        return milestones

    def factor(self, done: float) -> float:
        return self.gamma ** sum(done >= milestone for milestone in self.milestones)


class Constant(ScheduleConfig):
    """The peak learning rate throughout, after the warmup."""

    name: Literal["constant"]

    def factor(self, done: float) -> float:
        return 1.0


Schedules = Annotated[Cosine | Linear | StepDecay | Constant, Field(discriminator="name")]
