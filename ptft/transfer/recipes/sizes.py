"""Sizes of a finetuning run that suit the amount of data."""

from dataclasses import dataclass


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
