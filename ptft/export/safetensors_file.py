"""safetensors: the weights alone, by the names of the library whose network they fit, with facts beside them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ptft.errors import UsageError
from ptft.export.network import Exported
from ptft.models import TorchvisionCnn
from ptft.models.outline import ParametersOnMeta, outline
from ptft.models.zoo_families import family_of
from ptft.models.zoo_nets import EXPLICIT, torchvision_net
from ptft.transfer.facts import Facts

_ONNX_ONLY = {
    "squeezenet": "torchvision's SqueezeNet cuts off what is below 0 before the softmax, and ptft's does not, so its "
    "probabilities would be others",
    "mnasnet": "torchvision's MnasNet looks for a version among the weights, for which such a file has no room",
}


def safetensors_bytes(exported: Exported) -> bytes:
    """The content of a safetensors file.

    Of a network of torchvision the tensors have torchvision's names, of ptft's own `backbone.*` and `head.*`. Its
    metadata are `facts`.

    Raises:
        UsageError: the package is missing, or torchvision's own network could not use the file.
    """
    try:
        from safetensors.torch import save
    except ImportError:
        raise UsageError("writing .safetensors needs safetensors. pip install 'ptft[safetensors]'") from None
    for family, reason in _ONNX_ONLY.items():
        if exported.model.name.startswith(family):
            raise UsageError(f"--out: {reason}. Write .onnx.")
    weights = exported.classifier.state_dict()
    if isinstance(exported.model, TorchvisionCnn):
        weights = _as_torchvision(exported.model.name, weights)
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    return save(tensors, {"format": "pt"} | facts(exported).as_text())


def facts(exported: Exported) -> Facts:
    """Those of `Exported.facts`, and what turns pixels into the network's input and its output into answers."""
    shown, scale = exported.format, exported.scale
    return exported.facts().model_copy(
        update={
            "mean": shown.mean,
            "std": shown.std,
            "num_views": shown.num_views,
            "target_mean": scale and scale.mean,
            "target_std": scale and scale.std,
        }
    )


def safetensors_outputs(content: bytes, exported: Exported, images: Tensor) -> tuple[Tensor, Tensor]:
    """Answers and logits, as `Network` gives them, with the weights of such a file in the library's own network.

    Args:
        content: of the file; its tensors are loaded strictly, by torch.
        exported: what else is known.
        images: uint8 (B, C, S, S).
    """
    from safetensors.torch import load

    model, num_classes, in_channels = exported.model, len(exported.classes), exported.format.in_channels
    if isinstance(model, TorchvisionCnn):
        with ParametersOnMeta():
            net = torchvision_net(model.name, num_classes, in_channels, small_stem=model.small_stem)
    else:
        net = outline(model, num_classes, in_channels)
    net.load_state_dict(load(content), assign=True)
    with torch.inference_mode():
        answers, logits = exported.network(net.eval())(images)
    return answers, logits


def reader(exported: Exported) -> str:
    """Whose network is loaded with the file to compare the two."""
    return f"{'torchvision' if isinstance(exported.model, TorchvisionCnn) else 'ptft'}'s own {exported.model.name}"


def use(exported: Exported) -> str:
    """Which network the tensors fit."""
    model, num_classes, in_channels = exported.model, len(exported.classes), exported.format.in_channels
    if not isinstance(model, TorchvisionCnn):
        return f"the tensors of ptft's {model.name}, for `--from`"
    given = "".join(f", {name}={value}" for name, value in EXPLICIT.get(model.name, {}).items())
    net = f"torchvision.models.get_model({model.name!r}, num_classes={num_classes}{given})"
    changed = _changes(model.name, in_channels, model.small_stem)
    return f"the tensors of {net}{' with ' if changed else ''}{' and '.join(changed)}"


def is_ours(start: bytes) -> bool:
    """Whether a file that begins so was written here: after 8 bytes comes the header, as JSON."""
    return start[8:9] == b"{" and b'"ptft":"' in start[: 8 + int.from_bytes(start[:8], "little")]


def _changes(name: str, in_channels: int, small_stem: bool) -> list[str]:
    """What torchvision's network needs before the tensors fit, as Python."""
    family = family_of(name)
    with ParametersOnMeta():
        ours = torchvision_net(name, 1, in_channels, small_stem=small_stem)
        theirs = torchvision_net(name, 1, 3, small_stem=False)
    layers = [family.first_conv]
    if family.small_stem is not None and family.small_stem.pool:
        layers.append(family.small_stem.pool)
    changed = [(layer, *(str(net.get_submodule(layer)) for net in (theirs, ours))) for layer in layers]
    return [f"{layer} = {after}" for layer, before, after in changed if before != after]


def _as_torchvision(name: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A classifier's tensors under torchvision's names."""
    last = family_of(name).last_layer
    return {
        key.removeprefix("backbone.") if key.startswith("backbone.") else last + key.removeprefix("head"): tensor
        for key, tensor in weights.items()
    }
