"""Cross-entropy with smoothing, class weights and mixed images, computed by torch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ptft.objectives.mixing import Mixing
from ptft.runtime import constant


class CrossEntropy:
    """The loss of a batch and the mixing that precedes it.

    Args:
        label_smoothing: in [0, 1).
        class_weights: K weights, or None.
        mixing: what is blended.
    """

    def __init__(self, label_smoothing: float, class_weights: Sequence[float] | None, mixing: Mixing) -> None:
        self._smoothing = label_smoothing
        self._weights = None if class_weights is None else tuple(class_weights)
        self._mixing = mixing

    @property
    def mixes(self) -> bool:
        """Whether `mix` changes anything."""
        return self._mixing.is_on

    def mix(self, images: Tensor, labels: Tensor, num_classes: int, step: int) -> tuple[Tensor, Tensor]:
        """Blends each image with the one at the mirrored place of the batch.

        Args:
            images: float32 (B, C, H, W), normalised.
            labels: int64 (B,).
            num_classes: K.
            step: all randomness is a function of (seed, step).

        Returns:
            Images, and targets: the labels unchanged when mixing is off, else float32 (B, K) rows that sum to 1.
        """
        if not self.mixes:
            return images, labels
        return self._mixing.blend(images, functional.one_hot(labels, num_classes).float(), step)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the batch of the weighted cross-entropy in nats.

        The mean divides by B, not by the sum of the weights, so that the parts of a batch add up.

        Args:
            logits: float32 (B, K).
            targets: int64 (B,) or float32 (B, K).

        Returns:
            A scalar.
        """
        weights = None if self._weights is None else constant(self._weights, logits.device)
        losses = functional.cross_entropy(
            logits, targets, weight=weights, label_smoothing=self._smoothing, reduction="none"
        )
        return losses.mean()

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """The weights of −log p that `loss` sums over the classes and averages over the batch, without mixing.

        Args:
            labels: int64 (N,).
            num_classes: K.

        Returns:
            float64 (N, K): rows of one 1, less the smoothing, times the class weights.
        """
        one_hot = functional.one_hot(labels, num_classes).double()
        smoothed = torch.lerp(one_hot, torch.full_like(one_hot, 1 / num_classes), self._smoothing)
        return smoothed if self._weights is None else smoothed * constant(self._weights, labels.device).double()

    def unmixed_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the rows of −Σ targets · log p."""
        return -(targets * logits.log_softmax(dim=1)).sum() / len(logits)
