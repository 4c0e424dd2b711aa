"""Configs of our own CNNs for small images, 28 to 64 pixels. The networks are in `small_nets`."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ptft.models.base import ModelConfig

if TYPE_CHECKING:
    from ptft.models.classifier import Classifier

Width = Annotated[int, Field(ge=4, le=512)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class SmallCnn(ModelConfig):
    """Plain CNN of four convolutions for small images, 0.1 M parameters."""

    name: Literal["small-cnn"] = "small-cnn"
    """A quick model for first runs."""
    width: Width = 28
    """Channels of the first stage; the others have two and four times as many."""
    dropout: Probability = 0.0
    """Probability of zeroing a feature before the head while training."""

    def build(self, num_classes: int, in_channels: int) -> "Classifier":
        """Creates the classifier; see `ModelConfig.build`."""
        from ptft.models.small_nets import SmallCnnBackbone, with_head

        return with_head(SmallCnnBackbone(in_channels, self.width), num_classes, self.dropout)


class SmallResnet(ModelConfig):
    """Residual CNN of eight convolutions for small images (ResNet-9 of D. Page, 2018), 1.6 M parameters."""

    name: Literal["small-resnet"] = "small-resnet"
    """A strong model for small images."""
    width: Width = 32
    """Channels of the stem; the stages have two, four and eight times as many."""
    dropout: Probability = 0.0
    """Probability of zeroing a feature before the head while training."""

    def build(self, num_classes: int, in_channels: int) -> "Classifier":
        """Creates the classifier; see `ModelConfig.build`."""
        from ptft.models.small_nets import SmallResnetBackbone, with_head

        return with_head(SmallResnetBackbone(in_channels, self.width), num_classes, self.dropout)
