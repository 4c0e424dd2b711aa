"""What a step asks of the objective of any task."""

from typing import Protocol

from torch import Tensor


class BatchLoss(Protocol):
    """What training minimises."""

    @property
    def mixes(self) -> bool:
        """Whether `mix` blends images of different places in the batch."""
        ...

    def mix(self, images: Tensor, labels: Tensor, num_classes: int, step: int) -> tuple[Tensor, Tensor]:
        """Images and what the loss compares with, blended where the config asks for it.

        Args:
            images: float32 (B, C, H, W), normalised.
            labels: B of the task's, as `ptft.data.task.Examples` has them.
            num_classes: K, rows of the head.
            step: all randomness is a function of (seed, step).

        Returns:
            Images (B, C, H, W), and targets with B rows for `loss`.
        """
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """A scalar, the mean over B images; logits float32 (B, K), targets as `mix` gave them."""
        ...

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """What `unmixed_loss` compares the logits of N labels with, float64 (N, K)."""
        ...

    def unmixed_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As `loss`, of images that are not mixed: the mean over N; targets float64 (N, K), as `targets` gave them."""
        ...
