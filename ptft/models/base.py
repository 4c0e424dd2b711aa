"""What the config of every model has in common. Imports no torch."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field

from ptft.config.base import Config

if TYPE_CHECKING:
    from ptft.models.classifier import Classifier

SMALLEST_IMAGE = 8
"""Pixels: no model promises anything below, even where its layers would run."""


class ModelConfig(Config):
    """Base of the components in `ptft.models.Model`; each narrows `name` to the literals it answers to."""

    name: str
    in_channels: Annotated[int, Field(ge=1)] | None = None
    """Channels of the images; default: as many as the data has."""

    @abstractmethod
    def build(self, num_classes: int, in_channels: int) -> "Classifier":
        """Creates the classifier with random weights, drawn from torch's global generator.

        Args:
            num_classes: at least 1.
            in_channels: channels of the images, resolved: the field where it is set, else the data's.
        """

    def min_image_size(self) -> int:
        """Smallest height and width in pixels that the network can process; the caller checks."""
        return SMALLEST_IMAGE

    def following(self, source: "ModelConfig", in_channels: int | None) -> Self:
        """This config for weights of a source: what it leaves open is taken from a source by the same name.

        Args:
            source: the model that the weights are of.
            in_channels: that it takes; None when not known.
        """
        if source.name != self.name:
            return self
        kept = self.model_fields_set | {"in_channels"}
        return self.model_copy(update={key: value for key, value in source if key not in kept})
