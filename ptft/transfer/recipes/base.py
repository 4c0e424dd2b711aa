"""What a recipe is: three answers about a network of stages. Knows no torch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

OF_THE_SOURCE = ("l2_sp", "bn", "interpolate", "co_tuning", "soup")
"""Options of the section `transfer` that take something of the source."""
OPTIONS = ("layer_decay", "head_lr", "dropout", "drop_path", *OF_THE_SOURCE)
"""All that say how a network is trained."""


class Recipe(ABC):
    """How a network is trained from source weights. The head is always trained."""

    summary: ClassVar[str]
    """Its line in `ptft list recipes`."""
    refused: ClassVar[Sequence[str]] = ()
    """Options that have no meaning for it."""
    reason: ClassVar[str] = ""
    """Why they have none: what it does, after "which"."""
    solves_head: ClassVar[bool] = False
    """Whether the head is solved on the features of the frozen backbone before the first step."""
    trains_network: ClassVar[bool] = True
    """Whether optimizer steps follow."""

    @classmethod
    def of(cls, stages: Sequence[str]) -> Self:
        """The recipe of a config, whose `transfer.stages` these are."""
        return cls()

    @abstractmethod
    def trained(self, stages: Sequence[str], done: float) -> Sequence[str]:
        """The stages that are trained.

        Args:
            stages: names, from stem to head.
            done: share of the steps completed, in [0, 1]; at 1 every stage is named that is ever trained.
        """

    def factor(self, stages: Sequence[str], stage: str, done: float) -> float:
        """Factor in [0, 1] on the learning rate of a trained stage; arguments as `trained`."""
        return 1.0
