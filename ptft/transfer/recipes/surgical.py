"""Surgical finetuning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ptft.transfer.recipes.base import Recipe


@dataclass(frozen=True)
class Surgical(Recipe):
    """Only the named stages and the head are trained (Lee et al. 2023, "Surgical fine-tuning improves adaptation to
    distribution shifts"): early ones where the images look different, late ones where the classes differ.

    Without a stage it trains the head through the frozen network by SGD, with augmentation and all: the slow probe.

    Attributes:
        names: stages, in any order.
    """

    names: Sequence[str]

    summary = "Only the stages named by transfer.stages, and the head, are trained."

    @classmethod
    def of(cls, stages: Sequence[str]) -> Self:
        return cls(stages)

    def trained(self, stages: Sequence[str], done: float) -> Sequence[str]:
        return [stage for stage in stages if stage in self.names]
