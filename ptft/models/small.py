"""Configs of our own CNNs for small images, 28 to 64 pixels. The networks are in `small_nets`."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

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


class SmallVgg(ModelConfig):
    """VGG-like CNN of seven convolutions for small images, made for speed (Jordan 2024), 2.0 M parameters."""

    name: Literal["small-vgg"] = "small-vgg"
    """The fastest to good accuracy at small sizes."""
    width: Width = 64
    """Channels of the first stage; the other two have four times as many."""
    whiten: bool = True
    """Random weights: compute the first layer's filters from the training images, so that their responses are
    uncorrelated. Pretraining leaves them as they are; finetuning trains them as its recipe says. Else they are drawn
    and trained like others."""
    init: Literal["identity", "he"] = "identity"
    """Random weights: `identity` lets convolutions begin by passing their channels on, `he` draws all of them."""
    filters: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Filters of the first layer. Default: 8 for each channel of the images; for finetune the source's."""
    dropout: Probability = 0.0
    """Probability of zeroing a feature before the head while training."""

    def build(self, num_classes: int, in_channels: int) -> "Classifier":
        """Creates the classifier; see `ModelConfig.build`. Its first layer is not whitened yet."""
        from ptft.models.small_nets import SmallVggBackbone, with_head

        filters = self.filters or usual_filters(in_channels)
        backbone = SmallVggBackbone(
            in_channels, self.width, filters, whiten=self.whiten, identity=self.init == "identity"
        )
        return with_head(backbone, num_classes, self.dropout)

    def min_image_size(self) -> int:
        """The first layer takes a pixel, and each stage halves the rest."""
        return 9

    def following(self, source: ModelConfig, in_channels: int | None) -> Self:
        """With the source's number of filters: that of other channels would not fit its second layer."""
        followed = super().following(source, in_channels)
        if followed.filters or not isinstance(source, SmallVgg) or not in_channels:
            return followed
        return followed.model_copy(update={"filters": usual_filters(in_channels)})


def usual_filters(in_channels: int) -> int:
    """Of a 2x2 layer that sees each direction of its patches with either sign."""
    return 2 * 4 * in_channels
