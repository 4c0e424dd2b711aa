"""Mixup and CutMix: each image of a batch blended with the one at the mirrored place."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ptft.runtime import derive_seed


@dataclass(frozen=True)
class Mixing:
    """What is mixed, and how much.

    Attributes:
        mixup: α, 0 is off.
        cutmix: α, 0 is off; with both on, each batch takes one of them with probability 1/2.
        seed: the run's seed.
    """

    mixup: float
    cutmix: float
    seed: int

    @property
    def is_on(self) -> bool:
        """Whether anything is mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def blend(self, images: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Blends images float32 (B, C, H, W) and their targets float32 (B, K); a function of (seed, step)."""
        rng = np.random.default_rng(derive_seed("mix", self.seed, step))
        use_cutmix = self.cutmix > 0 and (not self.mixup or rng.random() < 0.5)
        alpha = self.cutmix if use_cutmix else self.mixup
        share = float(rng.beta(alpha, alpha))
        if use_cutmix:
            images, share = _paste(images, share, rng)
        else:
            images = torch.lerp(images.flip(0), images, share)
        return images, torch.lerp(targets.flip(0), targets, share)


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
