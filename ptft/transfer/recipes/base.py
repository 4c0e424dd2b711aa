"""What a recipe is: three answers about a network of stages. Knows no torch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence


class Recipe(ABC):
    """How a network is trained from source weights. The head is always trained."""

    solves_head: bool = False
    """Whether the head is solved on the features of the frozen backbone before the first step."""
    trains_network: bool = True
    """Whether optimizer steps follow."""

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
