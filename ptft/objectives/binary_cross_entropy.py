"""Binary cross-entropy for each class of a multi-label task."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from ptft.objectives.mixing import Mixing
from ptft.runtime import constant


class BinaryCrossEntropy:
    """The loss of a batch and the mixing that precedes it.

    The loss of an image is the sum over the classes: minus the log-probability of its set of labels, when classes are
    independent given the image. Like that of softmax cross-entropy, its gradient is p - y in each logit, so that one
    learning rate suits both.

    Args:
        label_smoothing: s in [0, 1): targets become (1 - s) y + s / 2.
        positive_weights: K factors on the loss of the images that have a class, or None.
        mixing: what is blended.
    """

    def __init__(self, label_smoothing: float, positive_weights: Sequence[float] | None, mixing: Mixing) -> None:
        self._smoothing = label_smoothing
        self._weights = None if positive_weights is None else tuple(positive_weights)
        self._mixing = mixing

    @property
    def mixes(self) -> bool:
        """Whether `mix` blends anything."""
        return self._mixing.is_on

    def mix(self, images: Tensor, labels: Tensor, num_classes: int, step: int) -> tuple[Tensor, Tensor]:
        """Blends each image, and its labels, with the one at the mirrored place; labels float32 (B, K)."""
        return self._mixing.blend(images, labels, step) if self.mixes else (images, labels)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the batch of the sum over the classes, in nats.

        Args:
            logits: float32 (B, K).
            targets: float32 (B, K) in [0, 1].
        """
        return self.unmixed_loss(logits, self._smoothed(targets))

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """Labels (N, K) smoothed, float64."""
        return self._smoothed(labels.double())

    def unmixed_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As `loss`, of targets that are smoothed."""
        weights = None if self._weights is None else constant(self._weights, logits.device).to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
        return losses.sum(dim=1).mean()

    def _smoothed(self, targets: Tensor) -> Tensor:
        return targets * (1 - self._smoothing) + self._smoothing / 2 if self._smoothing else targets
