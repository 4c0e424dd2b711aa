"""The augmentations that the configs build: operations in order, with the draws that feed them."""

from dataclasses import dataclass

from torch import Tensor

from ptft.augment import colour
from ptft.augment.boxes import random_boxes, random_erasing
from ptft.augment.configs import Flip
from ptft.augment.draws import Draws
from ptft.augment.geometry import Padding, resized_crop, scaled_crop, shift_crop
from ptft.augment.trivial import trivial_augment


def unchanged(images: Tensor, draws: Draws) -> Tensor:
    """The images as they are."""
    return images


def mirrored(flip: Flip, draws: Draws) -> Tensor:
    """Which images are mirrored left to right, bool (B,); one call of `draws`.

    Args:
        flip: true for a half of them, drawn anew in each epoch; `alternating` for a half in the even epochs and the
            others in the odd ones, so that two epochs show every image once each way (Jordan 2024, "94% on CIFAR-10 in
            3.29 seconds on a single GPU", section 3.6); false for none.
        draws: where the numbers come from.
    """
    return draws.alternating() if flip == "alternating" else draws.coin(0.5 if flip else 0.0)


@dataclass(frozen=True)
class ShiftAndFlip:
    """Random shift and mirror; keeps the dtype.

    Attributes:
        shift: greatest shift in pixels, below the image side.
        flip: see `mirrored`.
        padding: what comes in from outside.
    """

    shift: int
    flip: Flip
    padding: Padding

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        flipped = mirrored(self.flip, draws)
        shifts = draws.integers(-self.shift, self.shift + 1, 2)
        return shift_crop(images, shifts, flipped, self.padding)


@dataclass(frozen=True)
class StandardAugmentation:
    """Shift and mirror, then random erasing; keeps the dtype.

    Attributes:
        move: the shift and mirror.
        erasing: probability of random erasing.
    """

    move: ShiftAndFlip
    erasing: float

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        moved = self.move(images, draws)
        return random_erasing(moved, draws, self.erasing) if self.erasing else moved


@dataclass(frozen=True)
class Jitter:
    """Colour jitter as in torchvision's ColorJitter, but always in the order of the attributes.

    Factors are uniform in [max(0, 1 - strength), 1 + strength], the turn of the hue in [-hue, hue].
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Float32 (B, C, H, W) in [0, 255] to the same; one call of `draws`, whatever the strengths."""
        chances = draws.uniform(4).unbind(1)
        operations = (colour.brightness, colour.contrast, colour.saturation)
        strengths = (self.brightness, self.contrast, self.saturation)
        for operation, strength, chance in zip(operations, strengths, chances[:3], strict=True):
            if strength:
                least = max(0.0, 1 - strength)
                images = operation(images, least + (1 + strength - least) * chance)
        return colour.hue(images, self.hue * (2 * chances[3] - 1)) if self.hue else images


@dataclass(frozen=True)
class PhotoAugmentation:
    """Random resized crop, mirror, colour jitter, random erasing; uint8 in, float32 in [0, 255] out.

    Of images of another side than `size` the crop is scaled to it, with antialiasing.

    Attributes:
        size: side of the result in pixels.
        scale: least area of the crop as a fraction of the image.
        ratio: greatest ratio of the crop's longer side to its shorter.
        flip: see `mirrored`.
        jitter: the colour jitter.
        erasing: probability of random erasing.
    """

    size: int
    scale: float
    ratio: float
    flip: Flip
    jitter: Jitter
    erasing: float

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        flipped = mirrored(self.flip, draws)
        side = images.shape[-1]
        boxes, _ = random_boxes(draws, side, (self.scale, 1.0), self.ratio)
        is_own = side == self.size
        crops = resized_crop(images, boxes, flipped) if is_own else scaled_crop(images, boxes, flipped, self.size)
        jittered = self.jitter(crops, draws)
        return random_erasing(jittered, draws, self.erasing) if self.erasing else jittered


@dataclass(frozen=True)
class TrivialAugmentation:
    """Shift and mirror, then TrivialAugment-wide; uint8 in and out.

    Attributes:
        move: the shift and mirror.
    """

    move: ShiftAndFlip

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return trivial_augment(self.move(images, draws), draws)
