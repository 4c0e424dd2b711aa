"""Proof, before training starts, that the transferred backbone gives the source's features."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ptft.errors import TransferError
from ptft.models import Model, TorchvisionCnn
from ptft.models.classifier import Classifier
from ptft.models.outline import ParametersOnMeta, outline
from ptft.models.zoo_families import family_of
from ptft.runtime import derive_seed
from ptft.transfer.adapt import agreeing_channels, stem_of
from ptft.transfer.names import unwrap
from ptft.transfer.report import TransferReport
from ptft.transfer.source import SourceWeights

TOLERANCE = 1e-5
"""Largest difference accepted, as a share of the largest feature."""
_NUM_IMAGES = 4
_PIXELS = 64


def prove(classifier: Classifier, model: Model, source: SourceWeights, report: TransferReport) -> str:
    """Compares the features of target and source on a fixed batch, and says how they agree.

    The source's network is its own library's where there is one (timm, torchvision), else ptft's model of the
    source with the weights loaded strictly by torch. Where the first convolution was adapted to other channels, the
    batch is one on which both must agree: grey images, or whole repetitions of the source's channels.

    Args:
        classifier: the target, on the CPU, after the transfer.
        model: its architecture.
        source: what was transferred.
        report: of the transfer.

    Returns:
        A sentence: the proof, or why it cannot be given.

    Raises:
        TransferError: the features differ.
    """
    if reason := _inapplicable(classifier, model, source, report):
        return f"proof: none that the features are the source's: {reason}."
    network, title = _network(source)
    channels = source.in_channels or classifier.in_channels
    size = max(_PIXELS, model.min_image_size())
    theirs, ours = _batches(channels, classifier.in_channels, size)
    with torch.no_grad():
        expected = network(theirs)
        was_training = classifier.training
        got = classifier.eval().features(ours)
        classifier.train(was_training)
    scale = expected.abs().max().item()
    difference = (got - expected).abs().max().item()
    if scale == 0 and difference == 0:
        return (
            f"proof: none that the features are the source's: {title} gives 0 for all of them on {_NUM_IMAGES} fixed "
            "images. Its weights are spoilt, or never saw images like these."
        )
    told = f"largest difference {difference:.1e}, largest feature {scale:.2g}"
    if not difference <= TOLERANCE * scale:
        raise TransferError(
            f"the transferred backbone does not give the features of {title}: {told}. The weights were loaded, but the "
            "networks compute something else (padding, strides or normalisation differ); nothing was trained."
        )
    what = "grey images" if channels != classifier.in_channels else "images"
    return f"proof: on {_NUM_IMAGES} fixed {what} the backbone gives the features of {title}, {told}."


def _inapplicable(classifier: Classifier, model: Model, source: SourceWeights, report: TransferReport) -> str:
    """Why the target cannot give the source's features; empty where it must."""
    if source.model is None:
        return "the source's own model is not known"
    if _structure(model) != _structure(source.model):
        return f"the target is another network ({_words(model)}, the source {_words(source.model)})"
    if fresh := [part.name for part in report.tensors if _is_fresh(part.name, part.outcome)]:
        return f"{', '.join(fresh[:3])} did not come from it"
    stem = f"backbone.{stem_of(classifier.backbone)}"
    (given, _), taken = unwrap(source.tensors), classifier.state_dict()
    for part in report.adapted():
        before, after = given[part.name], taken[part.name]
        if part.name == stem and before.shape[2:] != after.shape[2:]:
            return f"{part.name} has another kernel"
        if part.name == stem and not agreeing_channels(before.shape[1], after.shape[1]):
            return f"{part.name} was adapted from {before.shape[1]} to {after.shape[1]} channels"
    return ""


def _is_fresh(name: str, outcome: str) -> bool:
    return outcome == "fresh" and name.startswith("backbone.") and not name.endswith("num_batches_tracked")


def _structure(model: Model) -> dict[str, object]:
    """What decides what the network computes from its weights, apart from their shapes."""
    return model.model_dump(exclude={"in_channels", "dropout", "whiten", "init", "filters"})


def _words(model: Model) -> str:
    return ", ".join(f"{key} {value}" for key, value in _structure(model).items() if value)


def _batches(source: int, target: int, size: int) -> tuple[Tensor, Tensor]:
    """The same images for a source and a target of other channels; (B, C, S, S) each."""
    generator = torch.Generator().manual_seed(derive_seed("proof"))
    channels = source if target % source == 0 else 1
    images = torch.randn(_NUM_IMAGES, channels, size, size, generator=generator)
    return images.repeat(1, source // channels, 1, 1), images.repeat(1, target // channels, 1, 1)


def _network(source: SourceWeights) -> tuple[Callable[[Tensor], Tensor], str]:
    """Images to features as the source computes them, and what computes them."""
    if source.network is not None:
        return source.network, "timm's own network"
    model, channels = source.model, source.in_channels
    if model is None or channels is None:
        raise ValueError("the source's model is not known")
    tensors, _ = unwrap(source.tensors)
    if isinstance(model, TorchvisionCnn) and channels == 3 and not model.small_stem:
        return _torchvision(model.name, tensors), f"torchvision's own {model.name}"
    backbone = outline(model, 2, channels).backbone
    _fill(backbone, tensors)
    return backbone.eval(), "the source's own network"


def _torchvision(name: str, tensors: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """torchvision's network with the source's weights: what its last layer is given, averaged over maps."""
    from ptft.vision import torchvision

    extra = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with ParametersOnMeta():
        network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=2, **extra)
    last = nn.Identity()
    network.set_submodule(family_of(name).last_layer, last)
    _fill(network, tensors)
    given: list[Tensor] = []
    last.register_forward_pre_hook(lambda _layer, inputs: given.append(inputs[0]))
    network.eval()

    def features(images: Tensor) -> Tensor:
        network(images)
        maps = given.pop()
        return maps.mean((2, 3)) if maps.ndim == 4 else maps

    return features


def _fill(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Gives the source's tensors to a network on the meta device, by torch's own strict loader.

    Counters that the source lacks stay without values, which nothing reads in eval mode.
    """
    state = network.state_dict()
    for name, tensor in state.items():
        if (found := tensors.get(f"backbone.{name}")) is not None:
            state[name] = found.to(tensor.dtype).reshape(tensor.shape)
    network.load_state_dict(state, assign=True)
