"""What `ptft export` writes into a file beside the weights, and reads out of it again."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from ptft.config.base import Config, Names
from ptft.data.images import MAX_IMAGE_SIZE
from ptft.data.labelling import Scale
from ptft.data.sources.base import NumViews
from ptft.data.task import Format
from ptft.errors import CheckpointError

_RESIZING = "largest centred square, resampled bilinearly with antialiasing"


class Facts(Config):
    """Beside the weights of one checkpoint; in the file each is text, all but words as JSON."""

    ptft: str
    """Version that wrote the file."""
    digest: str
    """Of the checkpoint."""
    task: str
    model: str
    classes: Names = Field(min_length=1)
    """In the order of the head's rows; of a regression its targets' names."""
    image_size: int = Field(ge=1, le=MAX_IMAGE_SIZE)
    in_channels: int = Field(ge=1, le=64)
    resizing: str = _RESIZING
    """How an image becomes one of that size."""
    threshold: float | None = None
    """Multi-label: probability from which an image counts as having a class."""
    mean: tuple[float, ...] | None = Field(None, strict=False)
    """Per channel, of pixels in [0, 1]; None where the file's network does that itself."""
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(None, strict=False)
    num_views: NumViews | None = None
    """Whose logits are averaged, see `views_of`."""
    target_mean: tuple[float, ...] | None = Field(None, strict=False)
    """Per target of a regression, which the network predicts in standard deviations from this mean."""
    target_std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(None, strict=False)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        wanted = ((self.in_channels, self.mean, self.std), (len(self.classes), self.target_mean, self.target_std))
        if any(values is not None and len(values) != count for count, *pair in wanted for values in pair):
            raise ValueError("mean and std need a number for each channel or target")
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
        """Reads them out of the metadata of a file; None where ptft did not write it.

        Raises:
            CheckpointError: ptft did, and they are damaged or of a newer version.
        """
        if "ptft" not in text:
            return None
        words = {name for name, field in cls.model_fields.items() if field.annotation is str}
        try:
            found = {
                name: fact if name in words else json.loads(fact) for name, fact in text.items() if name != "format"
            }
            return cls.model_validate(found)
        except (ValidationError, ValueError) as error:
            raise CheckpointError(
                f"{where} holds metadata of ptft that cannot be read: {_reason(error)}. Update ptft, or export again."
            ) from error


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    found: Any = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
