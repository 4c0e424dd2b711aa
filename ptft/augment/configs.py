"""The augmentations that a config can name, and their settings.

Nothing here imports torch at module level: a config is checked, and `ptft --help` answers, before torch is
loaded (2 s). The operations are imported by `build`.
"""

from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from ptft.config.base import Config
from ptft.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ptft.augment.draws import Draws
    from ptft.augment.pipelines import ShiftAndFlip


class Augmentation(Protocol):
    """A pure function of a batch and fresh draws: uint8 (B, C, S, S) in, uint8 or float32 in [0, 255] out.

    S is the image size that it was built for; of what crops, it may also be larger.
    """

    def __call__(self, images: "Tensor", draws: "Draws") -> "Tensor":
        """Augments each image by its own draws; the images given are left as they are."""
        ...


Flip = bool | Literal["alternating"]


class NoAugment(Config):
    """Images as they are."""

    name: Literal["none"] = "none"
    """Images as they are."""

    def build(self, image_size: int) -> Augmentation:
        """The augmentation for images of side `image_size`."""
        from ptft.augment.pipelines import unchanged

        return unchanged


class Standard(Config):
    """Random shift and mirror, the usual choice for small images."""

    name: Literal["standard"] = "standard"
    """Random shift and mirror."""
    flip: Flip = True
    """Mirror half of the images left to right; wrong for digits and text. `alternating` mirrors every image in every
    second epoch, which half of them in the first being random (Jordan 2024)."""
    shift: int | None = Field(default=None, ge=0)
    """Greatest shift in pixels, each way; null is an eighth of the image side."""
    padding: Literal["reflect", "zeros"] = "reflect"
    """What comes in at the edge: the image mirrored, or black."""
    erasing: float = Field(default=0.0, ge=0, le=1)
    """Probability that a random box is painted in the image's mean colour."""

    def build(self, image_size: int) -> Augmentation:
        """The augmentation for images of side `image_size`.

        Raises:
            UsageError: the shift is not below the image side.
        """
        from ptft.augment.pipelines import StandardAugmentation

        return StandardAugmentation(_move(self, image_size), self.erasing)


class Photo(Config):
    """Random resized crop, mirror and colour jitter, for photographs; from larger images with `data.store_size`."""

    name: Literal["photo"] = "photo"
    """Random resized crop, mirror and colour jitter."""
    scale: float = Field(default=0.35, gt=0, le=1)
    """Least area of the crop, as a fraction of the image."""
    ratio: float = Field(default=4 / 3, ge=1, le=4)
    """Greatest ratio of the crop's longer side to its shorter, before it is scaled to a square."""
    flip: Flip = True
    """Mirror half of the images left to right; `alternating` mirrors every image in every second epoch."""
    brightness: float = Field(default=0.2, ge=0, le=1)
    """Jitter of the brightness: its factor lies within 1 plus or minus this."""
    contrast: float = Field(default=0.2, ge=0, le=1)
    """Jitter of the contrast: its factor lies within 1 plus or minus this."""
    saturation: float = Field(default=0.2, ge=0, le=1)
    """Jitter of the saturation: its factor lies within 1 plus or minus this; no effect on grey images."""
    hue: float = Field(default=0.0, ge=0, le=0.5)
    """Greatest turn of the hue, in turns of the colour circle; no effect on grey images."""
    erasing: float = Field(default=0.0, ge=0, le=1)
    """Probability that a random box is painted in the image's mean colour."""

    def build(self, image_size: int) -> Augmentation:
        """The augmentation that gives images of side `image_size`, of images of any side."""
        from ptft.augment.pipelines import Jitter, PhotoAugmentation

        jitter = Jitter(self.brightness, self.contrast, self.saturation, self.hue)
        return PhotoAugmentation(image_size, self.scale, self.ratio, self.flip, jitter, self.erasing)


class Trivial(Config):
    """Random shift and mirror, then TrivialAugment-wide: one random operation per image."""

    name: Literal["trivial"] = "trivial"
    """Random shift and mirror, then one random operation of TrivialAugment-wide per image."""
    flip: Flip = True
    """Mirror half of the images left to right; wrong for digits and text. `alternating` mirrors every image in every
    second epoch, which half of them in the first being random (Jordan 2024)."""
    shift: int | None = Field(default=None, ge=0)
    """Greatest shift in pixels, each way; null is an eighth of the image side."""
    padding: Literal["reflect", "zeros"] = "reflect"
    """What the shift brings in at the edge: the image mirrored, or black."""

    def build(self, image_size: int) -> Augmentation:
        """The augmentation for images of side `image_size`.

        Raises:
            UsageError: the shift is not below the image side.
        """
        from ptft.augment.pipelines import TrivialAugmentation

        return TrivialAugmentation(_move(self, image_size))


def _move(config: Standard | Trivial, image_size: int) -> "ShiftAndFlip":
    """The shift and mirror that both configs share."""
    from ptft.augment.pipelines import ShiftAndFlip

    shift = round(image_size / 8) if config.shift is None else config.shift
    if shift >= image_size:
        raise UsageError(
            f"augment.shift: {shift} pixels would push an image of side {image_size} out of itself. "
            f"Write at most {image_size - 1}, or leave it out for {round(image_size / 8)}."
        )
    return ShiftAndFlip(shift, config.flip, config.padding)
