"""The networks behind `ptft.models.small`: backbones that take images of any size from 8 or 9 pixels."""

from torch import Tensor, nn
from torch.nn import functional as F

from ptft.models.classifier import Classifier
from ptft.models.small_maps import set_small_maps
from ptft.models.whitening import KERNEL, Whitening

_BN_MOMENTUM = 0.4
_FEATURE_SCALE = 1 / 9


class ConvBnRelu(nn.Module):
    """3x3 convolution without bias, batch normalisation, ReLU; keeps height and width, or halves them by max pooling.

    Pooling comes right after the convolution, so that normalisation and ReLU touch a quarter of the values.

    Initialised after He et al. 2015 (eq. 14, which preserves the variance of gradients): weights are normal
    with variance 2 / (9 * out_channels). Batch normalisation starts with weight 1 and bias 0.
    """

    def __init__(self, in_channels: int, out_channels: int, *, pool: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, in, H, W) to (B, out, H, W), with pooling to (B, out, H // 2, W // 2)."""
        maps = self.conv(maps)
        if self.pool:
            maps = F.max_pool2d(maps, kernel_size=2)
        activated: Tensor = self.relu(self.bn(maps))
        return activated


class Residual(nn.Module):
    """Adds two conv-bn-relu to the identity: x + second(first(x)), with no ReLU after the sum.

    Attributes:
        drop: between the two and the sum, for stochastic depth; nothing by default.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBnRelu(channels, channels)
        self.second = ConvBnRelu(channels, channels)
        self.drop: nn.Module = nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        update: Tensor = self.drop(self.second(self.first(maps)))
        return maps + update


class ConvBnGelu(nn.Module):
    """3x3 convolution without bias, max pooling where asked for, batch normalisation, GELU.

    Batch normalisation forgets fast (6 tenths of the old statistics a step), for runs of few steps; its weights stay 1
    in pretraining, they have no gradient.

    Args:
        in_channels, out_channels: of the convolution.
        pool: whether height and width are halved.
        identity: whether the first filters pass the channels on as they are, as many as there are (Jordan 2024,
            section 3.3), and the others are torch's; else all are normal after He et al. 2015, eq. 14.
    """

    def __init__(self, in_channels: int, out_channels: int, *, pool: bool = False, identity: bool) -> None:
        super().__init__()
        self.pool = pool
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, momentum=_BN_MOMENTUM)
        self.bn.weight.requires_grad_(False)
        self.gelu = nn.GELU()
        if identity:
            nn.init.dirac_(self.conv.weight.detach()[:in_channels])
        else:
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, in, H, W) to (B, out, H, W), with pooling to (B, out, H // 2, W // 2)."""
        maps = self.conv(maps)
        if self.pool:
            maps = F.max_pool2d(maps, kernel_size=2)
        activated: Tensor = self.gelu(self.bn(maps))
        return activated


class SmallCnnBackbone(nn.Module):
    """Three stages of 3x3 convolutions, w, 2w and 4w channels; max pooling after the first two, average pooling last.

    The second convolution is in the middle stage because it is cheap there: in the last stage it would take
    more parameters than all the others together.

    Args:
        in_channels: channels of the images.
        width: w.

    Attributes:
        feature_dim: 4w.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feature_dim = 4 * width
        self.stage1 = ConvBnRelu(in_channels, width, pool=True)
        self.stage2 = nn.Sequential(ConvBnRelu(width, 2 * width), ConvBnRelu(2 * width, 2 * width, pool=True))
        self.stage3 = ConvBnRelu(2 * width, 4 * width)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, C, H, W), float32, to features (B, 4w)."""
        maps: Tensor = self.stage3(self.stage2(self.stage1(images)))
        # The mean by a sum: its gradient is not written out for every pixel, which adaptive_avg_pool2d does, and in a
        # memory format that slows down what follows.
        return maps.sum(dim=(2, 3)) * (1 / (maps.shape[2] * maps.shape[3]))


class SmallResnetBackbone(nn.Module):
    """ResNet-9: the residual net of David Page's DAWNBench entry (myrtle.ai, How to train your ResNet).

    The stages halve the size and double the channels; the first and the last hold a residual pair; global max
    pooling at the end. We differ in three ways: half the width by default (32, not 64), a bias in the head
    instead of logits scaled by 1/8, and He initialisation.

    Args:
        in_channels: channels of the images.
        width: channels of the stem, w.

    Attributes:
        feature_dim: 8w.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feature_dim = 8 * width
        self.stem = ConvBnRelu(in_channels, width)
        self.stage1 = nn.Sequential(ConvBnRelu(width, 2 * width), nn.MaxPool2d(2), Residual(2 * width))
        self.stage2 = nn.Sequential(ConvBnRelu(2 * width, 4 * width), nn.MaxPool2d(2))
        self.stage3 = nn.Sequential(ConvBnRelu(4 * width, 8 * width), nn.MaxPool2d(2), Residual(8 * width))

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, C, H, W), float32, to features (B, 8w)."""
        maps = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return F.adaptive_max_pool2d(maps, 1).flatten(1)


def _vgg_stage(in_channels: int, out_channels: int, identity: bool) -> nn.Sequential:
    first = ConvBnGelu(in_channels, out_channels, pool=True, identity=identity)
    return nn.Sequential(first, ConvBnGelu(out_channels, out_channels, identity=identity))


class SmallVggBackbone(nn.Module):
    """The network of Jordan 2024 ("94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498, section 3.1).

    A 2x2 convolution and three stages of two 3x3 convolutions, of w, 4w and 4w channels, each halving the size after
    its first; global max pooling at the end. His logits, scaled by 1/9, are here features scaled by 1/9, so that the
    head is like any other and has a bias.

    Args:
        in_channels: channels of the images.
        width: w.
        filters: of the 2x2 convolution.
        whiten: whether that is to whiten patches, see `Whitening`; else it is like any other.
        identity: whether 3x3 convolutions begin near the identity, see `ConvBnGelu`.

    Attributes:
        feature_dim: 4w.
    """

    def __init__(self, in_channels: int, width: int, filters: int, *, whiten: bool, identity: bool) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feature_dim = 4 * width
        self.stem = Whitening(in_channels, filters) if whiten else nn.Conv2d(in_channels, filters, KERNEL)
        self.gelu = nn.GELU()
        self.stage1 = _vgg_stage(filters, width, identity)
        self.stage2 = _vgg_stage(width, 4 * width, identity)
        self.stage3 = _vgg_stage(4 * width, 4 * width, identity)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, C, H, W), float32, to features (B, 4w)."""
        maps = self.stage3(self.stage2(self.stage1(self.gelu(self.stem(images)))))
        return F.adaptive_max_pool2d(maps, 1).flatten(1) * _FEATURE_SCALE


def with_head(
    backbone: SmallCnnBackbone | SmallResnetBackbone | SmallVggBackbone, num_classes: int, dropout: float
) -> Classifier:
    """Puts a linear head, initialised as torch does by default, on a backbone."""
    set_small_maps(backbone)
    head = nn.Linear(backbone.feature_dim, num_classes)
    return Classifier(backbone, head, in_channels=backbone.in_channels, dropout=dropout)
