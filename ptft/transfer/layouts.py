"""How other libraries name the tensors of the same networks: from their names to those of ptft's models.

The sources of the names are the model files of torchvision (`densenet.py`: old names), timm (`convnext.py`,
`efficientnet.py`, `regnet.py`, `vgg.py`), Hugging Face transformers (`modeling_resnet.py`, `modeling_convnext.py`),
facebookresearch/ConvNeXt and kuangliu/pytorch-cifar. A renaming must be proved before it is added: the other
library's network and ours give the same features.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ptft.models.zoo_families import FAMILIES

_Rename = Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Layout:
    """A way to name the tensors of a network.

    Attributes:
        title: for messages.
        anchors: names of the weight of the first convolution; what stands before one is a wrapper's prefix.
        rules: pattern of a whole name -> its new form, a template of `re` or a function; the first that matches.
            A name that matches none stays as it is.
        only: the models it is proved for; empty for all.
        caution: what names and shapes cannot tell; empty for nothing.
    """

    title: str
    anchors: tuple[str, ...]
    rules: tuple[tuple[str, str | _Rename], ...] = ()
    only: tuple[str, ...] = ()
    caution: str = ""

    def rename(self, name: str) -> str:
        """The name in a ptft backbone or head, without `backbone.`."""
        for pattern, new in self.rules:
            if found := re.fullmatch(pattern, name):
                return new(found) if callable(new) else found.expand(new)
        return name


_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"


def _convnext_block(parts: Mapping[str, str]) -> _Rename:
    """Stage s (from 0) and block b to torchvision's `features.{2s+1}.{b}`; `parts` name the layers within."""

    def rename(found: re.Match[str]) -> str:
        stage, block, part, end = found.groups()
        return f"features.{2 * int(stage) + 1}.{block}.{parts[part]}{end or ''}"

    return rename


def _convnext_downsampling(found: re.Match[str]) -> str:
    stage, layer, end = found.groups()
    return f"features.{2 * int(stage)}.{layer}.{end}"


def _efficientnet_block(found: re.Match[str]) -> str:
    """timm's block s, b to torchvision's: layers are numbered in the order in which they compute.

    Depthwise separable blocks (stage 0 of B0 to B7) have conv_dw, bn1, se, conv_pw, bn2; inverted residuals have
    conv_pw, bn1, conv_dw, bn2, se, conv_pwl, bn3.
    """
    stage, block, part, end = found.groups()
    separable = {"conv_dw": "0.0", "bn1": "0.1", "se": "1", "conv_pw": "2.0", "bn2": "2.1"}
    inverted = {
        "conv_pw": "0.0",
        "bn1": "0.1",
        "conv_dw": "1.0",
        "bn2": "1.1",
        "se": "2",
        "conv_pwl": "3.0",
        "bn3": "3.1",
    }
    place = (separable if stage == "0" else inverted).get(part)
    if place is None:
        return found.string
    end = end.replace("conv_reduce", "fc1").replace("conv_expand", "fc2")
    return f"features.{int(stage) + 1}.{block}.block.{place}.{end}"


def _regnet_block(found: re.Match[str]) -> str:
    stage, block, part, end = found.groups()
    places = {"conv1": "f.a", "conv2": "f.b", "conv3": "f.c", "downsample": "proj", "se": "f.se"}
    end = re.sub(r"^conv\.", "0.", re.sub(r"^bn\.", "1.", end))
    return f"trunk_output.block{stage}.block{stage}-{int(block) - 1}.{places[part]}.{end}"


def _hf_resnet_layer(found: re.Match[str]) -> str:
    stage, block, layer, kind, end = found.groups()
    word = {"convolution": "conv", "normalization": "bn"}[kind]
    return f"layer{int(stage) + 1}.{block}.{word}{int(layer) + 1}.{end}"


def _hf_resnet_shortcut(found: re.Match[str]) -> str:
    stage, block, kind, end = found.groups()
    return f"layer{int(stage) + 1}.{block}.downsample.{int(kind == 'normalization')}.{end}"


_TIMM_CONVNEXT = {
    "conv_dw": "block.0",
    "norm": "block.2",
    "mlp.fc1": "block.3",
    "mlp.fc2": "block.5",
    "gamma": "layer_scale",
}
_PLAIN_CONVNEXT = {"dwconv": "block.0", "norm": "block.2", "pwconv1": "block.3", "pwconv2": "block.5"}
_META_CONVNEXT = _PLAIN_CONVNEXT | {"gamma": "layer_scale"}
_HF_CONVNEXT = _PLAIN_CONVNEXT | {"layernorm": "block.2", "layer_scale_parameter": "layer_scale"}

LAYOUTS: tuple[Layout, ...] = (
    Layout("torchvision", tuple(dict.fromkeys(f"{family.first_conv}.weight" for family in FAMILIES))),
    Layout("ptft", ("stage1.conv.weight", "stem.conv.weight", "stem.weight")),
    Layout(
        "torchvision before 0.4 (DenseNet)",
        ("features.conv0.weight",),
        ((r"(.*denselayer\d+\.(?:norm|relu|conv))\.(\d)\.(.*)", r"\1\2.\3"),),
    ),
    Layout(
        "pytorch-cifar",
        ("conv1.weight",),
        ((r"(layer\d\.\d+)\.shortcut\.(.*)", r"\1.downsample.\2"), (r"linear\.(.*)", r"fc.\1")),
    ),
    Layout(
        "timm ConvNeXt",
        ("stem.0.weight",),
        (
            (r"stem\.(\d)\.(.*)", r"features.0.\1.\2"),
            (
                r"stages\.(\d)\.blocks\.(\d+)\.(conv_dw|norm|mlp\.fc1|mlp\.fc2|gamma)(\..*)?",
                _convnext_block(_TIMM_CONVNEXT),
            ),
            (r"stages\.(\d)\.downsample\.(\d)\.(.*)", _convnext_downsampling),
            (r"head\.norm\.(.*)", r"classifier.0.\1"),
            (r"head\.fc\.(.*)", r"classifier.2.\1"),
        ),
    ),
    Layout(
        "facebookresearch ConvNeXt",
        ("downsample_layers.0.0.weight",),
        (
            (r"downsample_layers\.(\d)\.(\d)\.(.*)", _convnext_downsampling),
            (r"stages\.(\d)\.(\d+)\.(dwconv|norm|pwconv1|pwconv2|gamma)(\..*)?", _convnext_block(_META_CONVNEXT)),
            (r"norm\.(.*)", r"classifier.0.\1"),
            (r"head\.(.*)", r"classifier.2.\1"),
        ),
    ),
    Layout(
        "Hugging Face ConvNeXt",
        ("embeddings.patch_embeddings.weight",),
        (
            (r"embeddings\.patch_embeddings\.(.*)", r"features.0.0.\1"),
            (r"embeddings\.layernorm\.(.*)", r"features.0.1.\1"),
            (
                r"encoder\.stages\.(\d)\.layers\.(\d+)\.(dwconv|layernorm|pwconv1|pwconv2|layer_scale_parameter)(\..*)?",
                _convnext_block(_HF_CONVNEXT),
            ),
            (r"encoder\.stages\.(\d)\.downsampling_layer\.(\d)\.(.*)", _convnext_downsampling),
            (r"layernorm\.(.*)", r"classifier.0.\1"),
        ),
    ),
    Layout(
        "timm EfficientNet",
        ("conv_stem.weight",),
        (
            (r"conv_stem\.(.*)", r"features.0.0.\1"),
            (rf"bn1\.{_NORM}", r"features.0.1.\1"),
            (r"blocks\.(\d)\.(\d+)\.(conv_pw|bn1|conv_dw|bn2|se|conv_pwl|bn3)\.(.*)", _efficientnet_block),
            (r"conv_head\.(.*)", r"features.8.0.\1"),
            (rf"bn2\.{_NORM}", r"features.8.1.\1"),
            (r"classifier\.(.*)", r"classifier.1.\1"),
        ),
        # From B5 on torchvision's batch norm has another epsilon.
        only=("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4"),
        caution="timm's tf_ variants have the same tensors and another padding; timm:NAME instead of a file proves it.",
    ),
    Layout(
        "timm RegNet",
        ("stem.conv.weight",),
        (
            (r"stem\.conv\.(.*)", r"stem.0.\1"),
            (r"stem\.bn\.(.*)", r"stem.1.\1"),
            (r"s(\d)\.b(\d+)\.(conv1|conv2|conv3|downsample|se)\.(.*)", _regnet_block),
            (r"head\.fc\.(.*)", r"fc.\1"),
        ),
    ),
    Layout(
        "timm VGG",
        ("features.0.weight",),
        (
            (r"pre_logits\.fc1\.(.*)", r"classifier.0.\1"),
            (r"pre_logits\.fc2\.(.*)", r"classifier.3.\1"),
            (r"head\.fc\.(.*)", r"classifier.6.\1"),
        ),
    ),
    Layout(
        "Hugging Face ResNet",
        ("embedder.embedder.convolution.weight",),
        (
            (r"embedder\.embedder\.convolution\.(.*)", r"conv1.\1"),
            (r"embedder\.embedder\.normalization\.(.*)", r"bn1.\1"),
            (
                r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\.(convolution|normalization)\.(.*)",
                _hf_resnet_layer,
            ),
            (r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.(convolution|normalization)\.(.*)", _hf_resnet_shortcut),
        ),
    ),
)
