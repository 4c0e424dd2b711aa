"""Sizes of a finetuning run that suit the amount of data, and the learning rates worth trying."""

from dataclasses import dataclass
from typing import Literal

LR_FACTORS: dict[Literal["random", "source"], tuple[float, ...]] = {
    "random": (0.3, 1.0, 3.0),
    "source": (0.03, 0.1, 0.3),
}
"""Times the optimizer's usual learning rate, where a search begins: the source's weights near the target want a tiny
one, random weights a large one."""


def lr_grid(factors: tuple[float, ...], usual_lr: float) -> tuple[float, ...]:
    """The learning rates at these factors, to three digits."""
    return tuple(float(f"{factor * usual_lr:.3g}") for factor in factors)


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
