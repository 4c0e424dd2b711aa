"""Facts about torchvision's CNNs that a config needs before torch is loaded. `zoo_nets` applies them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ptft.models.base import SMALLEST_IMAGE

StemInit = Literal["fan_out", "fan_in", "fan_in_uniform", "normal_0.01", "normal_0.02", "normal_0.1", "default"]
"""How torchvision draws the first convolution: He et al. 2015, truncated normal by std, torch's default."""


@dataclass(frozen=True)
class SmallStem:
    """The first layers for images up to 64 pixels.

    Attributes:
        kernel_size: of the first convolution; stride and padding too.
        pool: module name of the max pooling that goes; empty where there is none.
        min_image_size: smallest image in pixels, measured.
    """

    kernel_size: int
    stride: int
    padding: int
    pool: str = ""
    min_image_size: int = SMALLEST_IMAGE


@dataclass(frozen=True)
class Family:
    """Networks of torchvision that share their first layers.

    Attributes:
        source: the paper.
        nets: name to (title, millions of parameters with 3 channels, 1000 classes and no auxiliary heads).
        first_conv: module name of the convolution that takes the images.
        last_layer: module name of the layer that gives the logits.
        stem_init: how its weights are drawn.
        min_image_size: smallest image in pixels that goes through, measured.
        small_stem: None for a family without early downsampling that could be taken out alone.
    """

    source: str
    nets: Mapping[str, tuple[str, float]]
    first_conv: str
    last_layer: str = "fc"
    stem_init: StemInit = "fan_out"
    min_image_size: int = SMALLEST_IMAGE
    small_stem: SmallStem | None = None


# A 7x7/2 convolution and a max pooling become one 3x3/1, as He et al. 2016 (4.2) did for CIFAR-10.
_RESNET = SmallStem(kernel_size=3, stride=1, padding=1, pool="maxpool")
_STRIDE_1 = SmallStem(kernel_size=3, stride=1, padding=1)

FAMILIES: tuple[Family, ...] = (
    Family(
        source="He et al. 2016",
        nets={
            "resnet18": ("ResNet-18", 11.7),
            "resnet34": ("ResNet-34", 21.8),
            "resnet50": ("ResNet-50", 25.6),
            "resnet101": ("ResNet-101", 44.5),
            "resnet152": ("ResNet-152", 60.2),
        },
        first_conv="conv1",
        small_stem=_RESNET,
    ),
    Family(
        source="Xie et al. 2017",
        nets={
            "resnext50_32x4d": ("ResNeXt-50 32x4d", 25.0),
            "resnext101_32x8d": ("ResNeXt-101 32x8d", 88.8),
            "resnext101_64x4d": ("ResNeXt-101 64x4d", 83.5),
        },
        first_conv="conv1",
        small_stem=_RESNET,
    ),
    Family(
        source="Zagoruyko and Komodakis 2016",
        nets={
            "wide_resnet50_2": ("Wide ResNet-50-2", 68.9),
            "wide_resnet101_2": ("Wide ResNet-101-2", 126.9),
        },
        first_conv="conv1",
        small_stem=_RESNET,
    ),
    Family(
        source="Huang et al. 2017",
        nets={
            "densenet121": ("DenseNet-121", 8.0),
            "densenet161": ("DenseNet-161", 28.7),
            "densenet169": ("DenseNet-169", 14.1),
            "densenet201": ("DenseNet-201", 20.0),
        },
        first_conv="features.conv0",
        last_layer="classifier",
        stem_init="fan_in",
        min_image_size=29,
        small_stem=SmallStem(kernel_size=3, stride=1, padding=1, pool="features.pool0"),
    ),
    Family(
        source="Liu et al. 2022",
        nets={
            "convnext_tiny": ("ConvNeXt-T", 28.6),
            "convnext_small": ("ConvNeXt-S", 50.2),
            "convnext_base": ("ConvNeXt-B", 88.6),
            "convnext_large": ("ConvNeXt-L", 197.8),
        },
        first_conv="features.0.0",
        last_layer="classifier.2",
        stem_init="normal_0.02",
        min_image_size=32,
        small_stem=SmallStem(kernel_size=2, stride=2, padding=0, min_image_size=16),
    ),
    Family(
        source="Tan and Le 2019",
        nets={
            "efficientnet_b0": ("EfficientNet-B0", 5.3),
            "efficientnet_b1": ("EfficientNet-B1", 7.8),
            "efficientnet_b2": ("EfficientNet-B2", 9.1),
            "efficientnet_b3": ("EfficientNet-B3", 12.2),
            "efficientnet_b4": ("EfficientNet-B4", 19.3),
            "efficientnet_b5": ("EfficientNet-B5", 30.4),
            "efficientnet_b6": ("EfficientNet-B6", 43.0),
            "efficientnet_b7": ("EfficientNet-B7", 66.3),
        },
        first_conv="features.0.0",
        last_layer="classifier.1",
        small_stem=_STRIDE_1,
    ),
    Family(
        source="Tan and Le 2021",
        nets={
            "efficientnet_v2_s": ("EfficientNetV2-S", 21.5),
            "efficientnet_v2_m": ("EfficientNetV2-M", 54.1),
            "efficientnet_v2_l": ("EfficientNetV2-L", 118.5),
        },
        first_conv="features.0.0",
        last_layer="classifier.1",
        small_stem=_STRIDE_1,
    ),
    Family(
        source="Radosavovic et al. 2020",
        nets={
            "regnet_x_400mf": ("RegNetX-400MF", 5.5),
            "regnet_x_800mf": ("RegNetX-800MF", 7.3),
            "regnet_x_1_6gf": ("RegNetX-1.6GF", 9.2),
            "regnet_x_3_2gf": ("RegNetX-3.2GF", 15.3),
            "regnet_x_8gf": ("RegNetX-8GF", 39.6),
            "regnet_x_16gf": ("RegNetX-16GF", 54.3),
            "regnet_x_32gf": ("RegNetX-32GF", 107.8),
            "regnet_y_400mf": ("RegNetY-400MF", 4.3),
            "regnet_y_800mf": ("RegNetY-800MF", 6.4),
            "regnet_y_1_6gf": ("RegNetY-1.6GF", 11.2),
            "regnet_y_3_2gf": ("RegNetY-3.2GF", 19.4),
            "regnet_y_8gf": ("RegNetY-8GF", 39.4),
            "regnet_y_16gf": ("RegNetY-16GF", 83.6),
            "regnet_y_32gf": ("RegNetY-32GF", 145.0),
            "regnet_y_128gf": ("RegNetY-128GF", 644.8),
        },
        first_conv="stem.0",
        small_stem=_STRIDE_1,
    ),
    Family(
        source="Sandler et al. 2018",
        nets={"mobilenet_v2": ("MobileNetV2", 3.5)},
        first_conv="features.0.0",
        last_layer="classifier.1",
        small_stem=_STRIDE_1,
    ),
    Family(
        source="Howard et al. 2019",
        nets={
            "mobilenet_v3_small": ("MobileNetV3-Small", 2.5),
            "mobilenet_v3_large": ("MobileNetV3-Large", 5.5),
        },
        first_conv="features.0.0",
        last_layer="classifier.3",
        small_stem=_STRIDE_1,
    ),
    Family(
        source="Tan et al. 2019",
        nets={
            "mnasnet0_5": ("MnasNet 0.5", 2.2),
            "mnasnet0_75": ("MnasNet 0.75", 3.2),
            "mnasnet1_0": ("MnasNet 1.0", 4.4),
            "mnasnet1_3": ("MnasNet 1.3", 6.3),
        },
        first_conv="layers.0",
        last_layer="classifier.1",
        small_stem=_STRIDE_1,
    ),
    Family(
        source="Ma et al. 2018",
        nets={
            "shufflenet_v2_x0_5": ("ShuffleNetV2 x0.5", 1.4),
            "shufflenet_v2_x1_0": ("ShuffleNetV2 x1.0", 2.3),
            "shufflenet_v2_x1_5": ("ShuffleNetV2 x1.5", 3.5),
            "shufflenet_v2_x2_0": ("ShuffleNetV2 x2.0", 7.4),
        },
        first_conv="conv1.0",
        stem_init="default",
        small_stem=_RESNET,
    ),
    Family(
        source="Szegedy et al. 2015",
        nets={"googlenet": ("GoogLeNet", 6.6)},
        first_conv="conv1.conv",
        stem_init="normal_0.01",
        min_image_size=15,
        small_stem=SmallStem(kernel_size=3, stride=1, padding=1, pool="maxpool1"),
    ),
    Family(
        source="Szegedy et al. 2016",
        nets={"inception_v3": ("Inception v3", 23.8)},
        first_conv="Conv2d_1a_3x3.conv",
        stem_init="normal_0.1",
        min_image_size=75,
    ),
    Family(
        source="Simonyan and Zisserman 2015",
        nets={
            "vgg11": ("VGG-11", 132.9),
            "vgg13": ("VGG-13", 133.0),
            "vgg16": ("VGG-16", 138.4),
            "vgg19": ("VGG-19", 143.7),
            "vgg11_bn": ("VGG-11 with batch normalisation", 132.9),
            "vgg13_bn": ("VGG-13 with batch normalisation", 133.1),
            "vgg16_bn": ("VGG-16 with batch normalisation", 138.4),
            "vgg19_bn": ("VGG-19 with batch normalisation", 143.7),
        },
        first_conv="features.0",
        last_layer="classifier.6",
        min_image_size=32,
    ),
    Family(
        source="Krizhevsky 2014",
        nets={"alexnet": ("AlexNet", 61.1)},
        first_conv="features.0",
        last_layer="classifier.6",
        stem_init="default",
        min_image_size=63,
    ),
    Family(
        source="Iandola et al. 2016",
        nets={"squeezenet1_0": ("SqueezeNet 1.0", 1.2)},
        first_conv="features.0",
        last_layer="classifier.1",
        stem_init="fan_in_uniform",
        min_image_size=21,
    ),
    Family(
        source="Iandola et al. 2016",
        nets={"squeezenet1_1": ("SqueezeNet 1.1", 1.2)},
        first_conv="features.0",
        last_layer="classifier.1",
        stem_init="fan_in_uniform",
        min_image_size=17,
    ),
)

_FAMILY_OF = {name: family for family in FAMILIES for name in family.nets}


def family_of(name: str) -> Family:
    """Returns the family of a torchvision name; KeyError for a name that is none of its CNNs."""
    return _FAMILY_OF[name]
