"""Builds torchvision's CNNs as classifiers: last linear layer off, first layers fitted to the images."""

from torch import Tensor, nn

from ptft.models.classifier import Classifier
from ptft.models.depthwise import set_depthwise
from ptft.models.small_maps import set_small_maps
from ptft.models.zoo_families import Family, StemInit, family_of
from ptft.vision import torchvision

# torchvision warns when these are left to their defaults; auxiliary heads would turn the output into a tuple.
EXPLICIT: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def build_torchvision(
    name: str, num_classes: int, in_channels: int, *, small_stem: bool, dropout: float | None
) -> Classifier:
    """Creates a torchvision CNN with random weights as a classifier.

    The backbone keeps torchvision's names: tensor `x` of a torchvision state dict is `backbone.x` here, and
    its last linear layer is `head`. The network is made whole, with `num_classes`, and only then taken apart,
    so every tensor is the one that torchvision draws for the same seed.

    SqueezeNet ends in a 1x1 convolution, ReLU and average pooling. Here the pooling comes first and the
    convolution last, as a linear layer with the same weights. The two commute; what goes is the ReLU, which
    keeps torchvision's logits from being negative.

    Args:
        name: torchvision's name of one of its CNN classifiers.
        num_classes: at least 1.
        in_channels: channels of the images. Unless 3, the first convolution is drawn anew in the same way.
        small_stem: take out the early downsampling; only where `family_of(name).small_stem` exists.
        dropout: probability before the head; None for torchvision's. Dropout elsewhere (vgg, alexnet) stays.
    """
    net = torchvision_net(name, num_classes, in_channels, small_stem=small_stem)
    set_depthwise(net)
    set_small_maps(net)
    head, own_dropout = _take_head(net)
    backbone = GlobalAverage(net.get_submodule("layers")) if name.startswith("mnasnet") else net
    probability = own_dropout if dropout is None else dropout
    return Classifier(backbone, head, in_channels=in_channels, dropout=probability)


def torchvision_net(name: str, num_classes: int, in_channels: int, *, small_stem: bool) -> nn.Module:
    """torchvision's own network with random weights, its first layers fitted; arguments as `build_torchvision`."""
    net: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **EXPLICIT.get(name, {}))
    _fit_stem(net, family_of(name), in_channels, small_stem)
    return net


class GlobalAverage(nn.Module):
    """MnasNet without its classifier: `layers`, then the mean over height and width.

    torchvision's own class refuses a state dict that is a plain dict (it looks for the version that
    `nn.Module.state_dict` attaches as an attribute), and plain is what a checkpoint holds.
    """

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, C, H, W), float32, to features (B, D)."""
        maps: Tensor = self.layers(images)
        return maps.mean((2, 3))


def _fit_stem(net: nn.Module, family: Family, in_channels: int, small_stem: bool) -> None:
    """Replaces the first convolution, and takes out the first pooling, as channels and image size ask.

    A convolution of unchanged shape keeps its weights: a small stem that only changes the stride costs none.
    """
    conv = net.get_submodule(family.first_conv)
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"{family.first_conv} is a {type(conv).__name__}, not a convolution")
    kernel_size, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
    if small_stem and family.small_stem is not None:
        stem = family.small_stem
        kernel_size, stride, padding = stem.kernel_size, stem.stride, stem.padding
        if stem.pool:
            net.set_submodule(stem.pool, nn.Identity())
    fitted = nn.Conv2d(in_channels, conv.out_channels, kernel_size, stride, padding, bias=conv.bias is not None)
    if fitted.weight.shape == conv.weight.shape:
        fitted.weight, fitted.bias = conv.weight, conv.bias
    else:
        draw_stem_(fitted, family.stem_init)
    net.set_submodule(family.first_conv, fitted)


def draw_stem_(conv: nn.Conv2d, how: StemInit) -> None:
    """Initialises a first convolution in place, as torchvision does in the constructors of its families."""
    weight = conv.weight
    match how:
        case "default":
            return
        case "fan_out":
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        case "fan_in":
            nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")
        case "fan_in_uniform":
            nn.init.kaiming_uniform_(weight, mode="fan_in", nonlinearity="relu")
        case "normal_0.01" | "normal_0.02" | "normal_0.1":
            nn.init.trunc_normal_(weight, std=float(how.removeprefix("normal_")))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _take_head(net: nn.Module) -> tuple[nn.Linear, float]:
    """Takes the last layer and the dropout directly before it out of the network.

    Returns:
        The last layer, as a linear one, and the probability of that dropout, 0 where there is none.
    """
    leaves = [(path, layer) for path, layer in net.named_modules() if not list(layer.children())]
    has_linear = any(isinstance(layer, nn.Linear) for _, layer in leaves)
    kind = nn.Linear if has_linear else nn.Conv2d
    last = max(index for index, (_, layer) in enumerate(leaves) if isinstance(layer, kind))
    path, layer = leaves[last]
    net.set_submodule(path, nn.Identity())
    path_before, before = leaves[last - 1]
    if isinstance(before, nn.Dropout):
        net.set_submodule(path_before, nn.Identity())
        return _as_linear(layer), before.p
    return _as_linear(layer), 0.0


def _as_linear(layer: nn.Module) -> nn.Linear:
    """Returns a linear layer as it is, and a 1x1 convolution as the linear layer with the same weights."""
    if isinstance(layer, nn.Linear):
        return layer
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1) or layer.bias is None:
        raise TypeError(f"a {type(layer).__name__} cannot be a linear head")
    head = nn.Linear(layer.in_channels, layer.out_channels)
    head.weight = nn.Parameter(layer.weight.detach().flatten(1))
    head.bias = nn.Parameter(layer.bias.detach())
    return head
