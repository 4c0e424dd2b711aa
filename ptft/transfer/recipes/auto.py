"""Recipe auto, and what its races may spend and who takes part: the section `transfer.race`. Knows no torch."""

from typing import Annotated

from pydantic import Field

from ptft.config.base import Config
from ptft.transfer.recipes.full import Full


class Auto(Full):
    """Short races decide between recipes and learning rates (Jamieson & Talwalkar 2016, "Non-stochastic best arm
    identification and hyperparameter optimization"); see `ptft.race`. Until they have it behaves as full finetuning."""

    summary = "Short races of probe, full, lp-ft (all or half the way) and random decide, on the lr too. The default."


class RaceConfig(Config):
    """How recipe auto tries before it commits."""

    budget: Annotated[float, Field(gt=0, examples=[1.0])] | None = None
    """Most steps of all races together, as a multiple of the run's own. Default: half the run's, or where that is more
    what 30 TFLOP of training buy (a minute or two on a small machine), but at most 10 times the run's. With
    train.max_minutes, which does not count the races, the limit is the 30 TFLOP alone."""
    random_weights: bool = True
    """Whether random weights race too, and are used where they win clearly; the source's weights are then set aside."""
