"""How a target task is trained from source weights: the recipes a config can name, and sizes that suit the data."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from ptft.config.base import Config

RecipeName = Literal["auto", "full", "probe"]

RECIPES: dict[str, str] = {
    "auto": "Chosen from the data; at present always `full`. The default.",
    "full": "All weights are trained.",
    "probe": "Only the head is trained; the backbone, its batch-norm statistics included, stays as it is.",
}


class TransferConfig(Config):
    """How source weights are taken over and trained."""

    from_: str | None = Field(None, alias="from", min_length=1)
    """Weights to start from, where the flag `--from` does not say it: a checkpoint or state dict (file), or
    `torchvision:WEIGHTS`, `timm:NAME`."""
    recipe: RecipeName = "auto"
    """What is trained; `ptft list recipes`."""
    min_loaded: float = Field(0.95, ge=0, le=1)
    """Smallest share of the backbone's weights that must come from the source; less is an error, exit code 4."""

    @property
    def freezes_backbone(self) -> bool:
        """Whether only the head is trained."""
        return self.recipe == "probe"


@dataclass(frozen=True)
class Budget:
    """Sizes of a finetuning run that suit the amount of data.

    Attributes:
        steps: optimizer steps.
        batch_size: global.
    """

    steps: int
    batch_size: int


def budget(num_examples: int) -> Budget:
    """Steps and batch size from the number of training images, where the config names none.

    Small sets get few, small batches but many passes; large ones few passes, in the spirit of BiT-HyperRule
    (Kolesnikov et al. 2020, section 3.3), which fixes the steps, never the epochs: here about 30 passes, at
    least 200 and at most 10,000 steps.

    Args:
        num_examples: at least 1.
    """
    batch_size = 32 if num_examples < 2_000 else 128
    return Budget(min(max(30 * num_examples // batch_size, 200), 10_000), batch_size)
