"""What `ptft export` writes into a file beside the weights, and reads out of it again."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from ptft.config.base import Config, Names, different
from ptft.data.images import MAX_IMAGE_SIZE
from ptft.data.labelling import Scale
from ptft.data.sources.base import NumViews, Statistics
from ptft.data.task import Format
from ptft.errors import CheckpointError

_PREPARATION = (
    "upright by its EXIF orientation, transparent parts on white, 8 bit a channel; then the largest centred square, "
    "resampled bilinearly with antialiasing"
)
_SMALLEST = 1e-6
_WORDS = ("ptft", "digest", "task", "model", "preparation")
_Positive = Annotated[float, Field(gt=0)]


class Facts(Config):
    """Beside the weights of one checkpoint; in the file each is text, all but words as JSON."""

    ptft: str
    """Version that wrote the file."""
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the checkpoint."""
    task: str = Field(pattern="^(single-label|multi-label|regression)$")
    model: str
    classes: Annotated[Names, AfterValidator(different)] = Field(min_length=1)
    """In the order of the head's rows; of a regression its targets' names."""
    image_size: int = Field(ge=1, le=MAX_IMAGE_SIZE)
    in_channels: int = Field(ge=1, le=64)
    preparation: str = _PREPARATION
    """How an image becomes one of that size."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """Multi-label: probability from which an image counts as having a class."""
    mean: Statistics | None = None
    """Per channel, of pixels in [0, 1]; None where the file's network does that itself."""
    std: Statistics | None = None
    num_views: NumViews | None = None
    """Whose logits are averaged, see `views_of`."""
    target_mean: tuple[float, ...] | None = Field(None, strict=False)
    """Per target of a regression, which the network predicts in standard deviations from this mean."""
    target_std: tuple[_Positive, ...] | None = Field(None, strict=False)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for one, other, count, what in (
            ("mean", "std", self.in_channels, "channel"),
            ("target_mean", "target_std", len(self.classes), "target"),
        ):
            pair = getattr(self, one), getattr(self, other)
            if (pair[0] is None) != (pair[1] is None):
                raise ValueError(f"{one} and {other} need each other")
            if any(values is not None and len(values) != count for values in pair):
                raise ValueError(f"{one} and {other} need a number for each {what}")
        if self.std is not None and min(self.std) < _SMALLEST:
            raise ValueError(f"std is at least {_SMALLEST:g}")
        if self.target_mean is not None and self.task != "regression":
            raise ValueError("target_mean belongs to a regression")
        return self

    @property
    def format(self) -> Format | None:
        """Of the images; None where the file does not say."""
        if self.mean is None or self.std is None:
            return None
        return Format(self.image_size, self.in_channels, self.mean, self.std, self.num_views or 1)

    @property
    def scale(self) -> Scale | None:
        """Of a regression's targets; None where the file does not say."""
        return Scale(self.target_mean, self.target_std) if self.target_mean and self.target_std else None

    def as_text(self) -> dict[str, str]:
        """For the file."""
        facts = self.model_dump(mode="json", exclude_none=True)
        return {
            name: fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False)
            for name, fact in facts.items()
        }

    @classmethod
    def from_text(cls, text: Mapping[str, str], where: str) -> "Facts | None":
        """Reads them out of the metadata of a file of weights; None where ptft did not write it.

        Raises:
            CheckpointError: ptft did, and they are damaged, not all there, or of a newer version.
        """
        if "ptft" not in text:
            return None
        try:
            found = {
                name: fact if name in _WORDS else json.loads(fact) for name, fact in text.items() if name != "format"
            }
            facts = cls.model_validate(found)
        except (ValidationError, ValueError, RecursionError) as error:
            raise _unreadable(where, _reason(error)) from error
        if facts.format is None or (facts.task == "regression" and facts.scale is None):
            raise _unreadable(where, "mean and std are not there")
        return facts


def _unreadable(where: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{where} holds metadata of ptft that cannot be used: {reason}. Export it again, or update ptft."
    )


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    found: Any = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
