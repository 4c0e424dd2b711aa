"""Full finetuning."""

from collections.abc import Sequence

from ptft.transfer.recipes.base import Recipe


class Full(Recipe):
    """All weights are trained from the first step (Yosinski et al. 2014, "How transferable are features in deep
    neural networks?", their fine-tuned transfer)."""

    summary = "All weights are trained."

    def trained(self, stages: Sequence[str], done: float) -> Sequence[str]:
        return stages
