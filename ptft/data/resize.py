"""Progressive resizing: the side of the training images as a function of the step alone. Knows no torch."""

import math
from bisect import bisect
from dataclasses import dataclass

from pydantic import Field

from ptft.config.base import Config
from ptft.errors import UsageError

_MULTIPLE = 4


@dataclass(frozen=True)
class Sizes:
    """The sides of training images, each from a step on.

    Attributes:
        sides: pixels, rising; the last is the full size.
        starts: the first step of each, counted from 0; the first is 0.
        num_steps: all steps of the run.
    """

    sides: tuple[int, ...]
    starts: tuple[int, ...]
    num_steps: int

    def at(self, step: int) -> int:
        """The side in pixels at a step counted from 0."""
        return self.sides[bisect(self.starts, step) - 1]

    @property
    def phases(self) -> tuple[range, ...]:
        """The steps of each side; some may be without any."""
        return tuple(map(range, self.starts, (*self.starts[1:], max(self.num_steps, self.starts[-1]))))


class Resize(Config):
    """Progressive resizing (Howard 2018, fast.ai): training begins with small images, which cost less, and ends with
    the full size, which is also what evaluation sees. Off unless initial_scale is below 1."""

    initial_scale: float = Field(1.0, gt=0, le=1, examples=[0.5])
    """Side of the training images at the first step as a fraction of data.image_size, to the nearest multiple of 4
    pixels; 1 is full size throughout."""
    full_from: float = Field(0.75, gt=0, le=1)
    """Fraction of the run after which they have the full size."""
    num_sizes: int = Field(4, ge=1)
    """Sizes before the full one, each a multiple of 4 pixels and as long as the others; fewer where there are fewer
    multiples."""

    def build(self, image_size: int, num_steps: int, smallest: int) -> Sizes:
        """The sides of a run of `num_steps`.

        Args:
            image_size: the full side in pixels.
            num_steps: all steps.
            smallest: side that the model can process.

        Raises:
            UsageError: the first size is too small for the model, or the full one.
        """
        if self.initial_scale == 1:
            return Sizes((image_size,), (0,), num_steps)
        first = _nearest(self.initial_scale * image_size)
        if first >= image_size:
            raise UsageError(
                f"train.resize.initial_scale: {self.initial_scale:g} of {image_size} pixels is the full size, in "
                f"multiples of {_MULTIPLE}. Write 1 for no resizing, or less, for example 0.5."
            )
        if first < smallest:
            least = math.ceil(100 * _MULTIPLE * math.ceil(smallest / _MULTIPLE) / image_size) / 100
            advice = f"Write at least {least:g}." if least < 1 else "Leave train.resize out."
            raise UsageError(
                f"train.resize.initial_scale: training would begin with images of {first} pixels, and the model needs "
                f"at least {smallest}. {advice}"
            )
        grown = [first + (image_size - first) * index / self.num_sizes for index in range(self.num_sizes)]
        small = sorted({side for side in map(_nearest, grown) if side < image_size})
        starts = [round(self.full_from * num_steps * index / len(small)) for index in range(len(small) + 1)]
        return Sizes((*small, image_size), tuple(starts), num_steps)


def _nearest(side: float) -> int:
    """The nearest positive multiple."""
    return _MULTIPLE * max(1, round(side / _MULTIPLE))
