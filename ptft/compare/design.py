"""What a comparison tries: the section `compare` of its config. Knows no torch."""

from typing import Annotated, Literal

from pydantic import Field, Strict, field_validator

from ptft.config.base import Config
from ptft.transfer.recipes import LR_FACTORS, lr_grid

Arm = Literal["random", "pretrained", "probe"]
ARM_NAMES: dict[Arm, str] = {"random": "random weights", "pretrained": "pretrained", "probe": "frozen probe"}

Labels = int | Literal["all"]
"""Labels a class."""

LearningRates = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Strict(False), Field(min_length=1)]

# Times the optimizer's default; grids are extended where the best is at an edge.
_FACTORS: dict[Arm, tuple[float, ...]] = {
    "random": LR_FACTORS["random"],
    "pretrained": LR_FACTORS["source"],
    "probe": (1.0,),  # its head is solved, which takes no learning rate
}


class LrsConfig(Config):
    """The learning rates each arm tries; where the best is at the edge of three or more, the grid grows there. The
    frozen probe has none: its head is solved."""

    random: LearningRates | None = None
    """Of random weights. Default: 0.3, 1 and 3 times the optimizer's default."""
    pretrained: LearningRates | None = None
    """Of the checkpoint's weights. Default: 0.03, 0.1 and 0.3 times the optimizer's default."""

    def of(self, arm: Arm, default_lr: float) -> tuple[float, ...]:
        """The grid an arm begins with, rising."""
        given: tuple[float, ...] | None = getattr(self, arm, None)
        return tuple(sorted(set(given or lr_grid(_FACTORS[arm], default_lr))))


class CompareSection(Config):
    """What is compared, how often, and at what cost."""

    labels_per_class: (
        Annotated[tuple[Annotated[int, Field(ge=1)] | Literal["all"], ...], Strict(False), Field(min_length=1)] | None
    ) = None
    """Numbers of labels of each class, `all` for every one there is; fewer are among the more. Default: 5, 20, 100
    (as far as the smallest class reaches) and all."""
    seeds: int = Field(5, ge=1)
    """Repetitions of every point: another draw of the labels, other random weights, another order. Below 3 there is
    no verdict."""
    tuning_seeds: int = Field(3, ge=1)
    """The learning rates are tried on this many of the seeds; the others run at the chosen one only."""
    lrs: LrsConfig = LrsConfig()
    probe: bool = True
    """Whether to try the frozen backbone with a new head as well."""
    charge_pretraining: bool = False
    """Give random weights the steps of the pretraining in addition."""
    jobs: Annotated[int, Field(ge=1)] | None = None
    """Runs side by side, which share the processor's cores. Default: one a core, as far as memory reaches; one on a
    GPU."""

    @field_validator("labels_per_class")
    @classmethod
    def _rising(cls, given: tuple[Labels, ...] | None) -> tuple[Labels, ...] | None:
        return None if given is None else tuple(sorted(set(given), key=order_of))

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms, the baseline first."""
        return ("random", "pretrained", "probe") if self.probe else ("random", "pretrained")


def told_seeds(count: int) -> str:
    """`5 seeds`, `1 seed`."""
    return f"{count} {'seed' if count == 1 else 'seeds'}"


def order_of(labels: Labels) -> float:
    """A key to sort numbers of labels by: `all` is the most."""
    return float("inf") if labels == "all" else labels
