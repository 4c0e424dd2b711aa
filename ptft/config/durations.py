"""How long something lasts, in the unit the user thinks in; inside ptft there are only steps."""

import math
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from ptft.config.base import Config, is_stored

_UNITS = ("epochs", "steps", "examples")


class Duration(Config):
    """A length of training: exactly one of epochs, steps or examples."""

    epochs: float | None = Field(default=None, ge=0, examples=[1])
    """Passes over the training part; 0.5 is half of it."""
    steps: int | None = Field(default=None, ge=0, examples=[1000])
    """Optimizer steps."""
    examples: int | None = Field(default=None, ge=0, examples=[100_000])
    """Training images seen, repeated ones counted again."""

    @model_validator(mode="after")
    def _check_one_unit(self) -> Self:
        given = [unit for unit in _UNITS if getattr(self, unit) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of epochs, steps or examples, got {' and '.join(given) or 'none'}.")
        return self

    @model_serializer(mode="wrap")
    def _write_only_the_unit_given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {unit: value for unit, value in write(self).items() if value is not None}

    def to_steps(self, num_examples: int, batch_size: int) -> int:
        """The same length in optimizer steps, rounded up; 0 only for a duration of 0.

        Args:
            num_examples: images in the training part, at least 1.
            batch_size: global, at least 1.
        """
        if self.steps is not None:
            return self.steps
        if self.examples is not None:
            return -(-self.examples // batch_size)
        epochs = self.epochs or 0.0
        # 0.07 * 100 / 7 is 1.0000000000000002 in floats and means 1 step, not 2.
        steps = math.ceil(epochs * num_examples / batch_size - 1e-9)
        return max(steps, 1) if epochs > 0 else 0


def _not_zero(duration: Duration, info: ValidationInfo) -> Duration:
    if not is_stored(info) and 0 in (duration.epochs, duration.steps, duration.examples):
        raise ValueError("must be more than 0. Write for example {epochs: 1}.")
    return duration


Period = Annotated[Duration, AfterValidator(_not_zero)]
"""The time from one event to the next; 0, at every step, is refused but in stored configs."""
