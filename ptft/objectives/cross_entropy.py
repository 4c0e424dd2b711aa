"""Cross-entropy with smoothing, class weights and mixed images, computed by torch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ptft.runtime import derive_seed


class CrossEntropy:
    """The loss of a batch and the mixing that precedes it.

    Args:
        label_smoothing: in [0, 1).
        class_weights: K weights, or None.
        mixup: α, 0 is off.
        cutmix: α, 0 is off; with both on, each batch takes one of them with probability 1/2.
        seed: the run's seed.
    """

    def __init__(
        self,
        label_smoothing: float,
        class_weights: Sequence[float] | None,
        mixup: float,
        cutmix: float,
        seed: int,
    ) -> None:
        self._smoothing = label_smoothing
        self._weights = None if class_weights is None else torch.tensor(class_weights)
        self._mixup = mixup
        self._cutmix = cutmix
        self._seed = seed

    @property
    def mixes(self) -> bool:
        """Whether `mix` changes anything."""
        return self._mixup > 0 or self._cutmix > 0

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
        rng = np.random.default_rng(derive_seed("mix", self._seed, step))
        use_cutmix = self._cutmix > 0 and (not self._mixup or rng.random() < 0.5)
        alpha = self._cutmix if use_cutmix else self._mixup
        share = float(rng.beta(alpha, alpha))
        if use_cutmix:
            images, share = _paste(images, share, rng)
        else:
            images = torch.lerp(images.flip(0), images, share)
        targets = functional.one_hot(labels, num_classes).float()
        return images, torch.lerp(targets.flip(0), targets, share)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the batch of the weighted cross-entropy in nats.

        The mean divides by B, not by the sum of the weights, so that the parts of a batch add up.

        Args:
            logits: float32 (B, K).
            targets: int64 (B,) or float32 (B, K).

        Returns:
            A scalar.
        """
        weights = None if self._weights is None else self._weights.to(logits.device)
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
        return smoothed if self._weights is None else smoothed * self._weights.double()


def _paste(images: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Replaces one box, the same in all images, by the mirrored image's; returns the share of the area kept."""
    height, width = images.shape[-2:]
    scale = (1 - share) ** 0.5
    y, x = rng.integers(height), rng.integers(width)
    top, bottom = _clip(y - height * scale / 2, height), _clip(y + height * scale / 2, height)
    left, right = _clip(x - width * scale / 2, width), _clip(x + width * scale / 2, width)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images.flip(0)[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _clip(position: float, end: int) -> int:
    return min(max(round(position), 0), end)
