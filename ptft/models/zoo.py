"""Config of every CNN classifier of torchvision, by torchvision's name. `zoo_nets` makes the networks."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from ptft.models.base import ModelConfig
from ptft.models.zoo_families import FAMILIES, family_of

if TYPE_CHECKING:
    from ptft.models.classifier import Classifier

# Written out, and not read from torchvision, so that a config is checked without importing torch.
ResNet = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
ResNeXt = Literal["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"]
WideResNet = Literal["wide_resnet50_2", "wide_resnet101_2"]
DenseNet = Literal["densenet121", "densenet161", "densenet169", "densenet201"]
ConvNeXt = Literal["convnext_tiny", "convnext_small", "convnext_base", "convnext_large"]
EfficientNetLow = Literal["efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"]
EfficientNetHigh = Literal["efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7"]
EfficientNetV2 = Literal["efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"]
RegNetX = Literal[
    "regnet_x_400mf",
    "regnet_x_800mf",
    "regnet_x_1_6gf",
    "regnet_x_3_2gf",
    "regnet_x_8gf",
    "regnet_x_16gf",
    "regnet_x_32gf",
]
RegNetY = Literal[
    "regnet_y_400mf",
    "regnet_y_800mf",
    "regnet_y_1_6gf",
    "regnet_y_3_2gf",
    "regnet_y_8gf",
    "regnet_y_16gf",
    "regnet_y_32gf",
    "regnet_y_128gf",
]
MobileNet = Literal["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"]
MnasNet = Literal["mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"]
ShuffleNet = Literal["shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]
Inception = Literal["googlenet", "inception_v3"]
Vgg = Literal["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]
AlexNetLike = Literal["alexnet", "squeezenet1_0", "squeezenet1_1"]

TorchvisionName = Literal[
    ResNet,
    ResNeXt,
    WideResNet,
    DenseNet,
    ConvNeXt,
    EfficientNetLow,
    EfficientNetHigh,
    EfficientNetV2,
    RegNetX,
    RegNetY,
    MobileNet,
    MnasNet,
    ShuffleNet,
    Inception,
    Vgg,
    AlexNetLike,
]


class TorchvisionCnn(ModelConfig):
    """A CNN of torchvision with random weights."""

    name: TorchvisionName
    """torchvision's name of the network."""
    small_stem: bool = False
    """For images up to 64 pixels: take out the early downsampling, which suits photographs of 224 pixels."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Probability of zeroing a feature before the head while training; default: as torchvision has it."""

    @field_validator("small_stem")
    @classmethod
    def _has_a_stem_to_change(cls, small_stem: bool, info: ValidationInfo) -> bool:
        name = info.data.get("name")
        if small_stem and name is not None and family_of(name).small_stem is None:
            raise ValueError(f"{name} has no stem to change. Remove model.small_stem.")
        return small_stem

    @classmethod
    def summaries(cls) -> dict[str, str]:
        """One line for each name, by family: title, source, parameters with 3 channels and 1000 classes."""
        return {
            name: f"{title} ({family.source}), {millions} M parameters"
            for family in FAMILIES
            for name, (title, millions) in family.nets.items()
        }

    def min_image_size(self) -> int:
        """Smallest height and width in pixels; a small stem lowers it."""
        family = family_of(self.name)
        if self.small_stem and family.small_stem is not None:
            return family.small_stem.min_image_size
        return family.min_image_size

    def build(self, num_classes: int, in_channels: int) -> "Classifier":
        """Creates the classifier; see `ModelConfig.build`.

        With 3 channels and no small stem it has the very tensors that torchvision draws for the same seed.
        """
        from ptft.models.zoo_nets import build_torchvision

        return build_torchvision(self.name, num_classes, in_channels, small_stem=self.small_stem, dropout=self.dropout)
