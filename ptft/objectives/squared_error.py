"""Squared error on standardised targets, for regression."""

from torch import Tensor

from ptft.data.labelling import Scale


class SquaredError:
    """The loss of a batch.

    Half the squared error in standard deviations of the training part, summed over the targets: up to a constant minus
    the log-likelihood of a Gaussian of that width. Like that of cross-entropy, its gradient is prediction minus target
    in each output, so that one learning rate suits both.

    Args:
        scale: of the targets.
    """

    mixes = False

    def __init__(self, scale: Scale) -> None:
        self._scale = scale

    def mix(self, images: Tensor, labels: Tensor, num_classes: int, step: int) -> tuple[Tensor, Tensor]:
        """Images as they are, and labels, float64 (B, K) in their own units, standardised to float32."""
        return images, self._scale.standardize(labels).float()

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the batch; logits and targets float32 (B, K), standardised."""
        return (logits - targets).square().sum(dim=1).mean() / 2

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """Labels (N, K) standardised, float64."""
        return self._scale.standardize(labels.double())

    def unmixed_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As `loss`."""
        return self.loss(logits, targets)
