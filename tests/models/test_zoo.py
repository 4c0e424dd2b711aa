"""torchvision's CNNs as classifiers: the same names, tensors and logits; other channels; small stems."""

import math
from typing import Any, get_args

import pytest
import torch
import torchvision
from pydantic import ValidationError
from torch import Tensor, nn

from ptft.models import TorchvisionCnn
from ptft.models.classifier import Classifier
from ptft.models.outline import outline
from ptft.models.zoo import TorchvisionName
from ptft.models.zoo_families import FAMILIES, family_of
from ptft.models.zoo_nets import draw_stem_

NAMES = get_args(TorchvisionName)
SMALLEST = [min(family.nets, key=lambda name: family.nets[name][1]) for family in FAMILIES]
WITH_STEM = [name for name in SMALLEST if family_of(name).small_stem is not None]
LIGHT = ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "densenet121", "googlenet"]


def torchvision_net(name: str, num_classes: int = 1000) -> nn.Module:
    explicit = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    net: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **explicit)
    return net


def config_of(name: Any, **fields: Any) -> TorchvisionCnn:
    return TorchvisionCnn(name=name, **fields)


def split(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Splits a torchvision state dict into what is `backbone.*` here, and the last weight and bias."""
    last = list(state)[-1].removesuffix(".bias")
    head = [state[f"{last}.weight"].flatten(1), state[f"{last}.bias"]]
    return {key: value for key, value in state.items() if not key.startswith(f"{last}.")}, head


def test_names_are_the_cnns_of_the_installed_torchvision() -> None:
    every = torchvision.models.list_models(module=torchvision.models)
    transformers = ("vit_", "swin_", "maxvit_")
    assert sorted(NAMES) == [name for name in every if not name.startswith(transformers)]


def test_every_name_is_in_one_family() -> None:
    assert sorted(NAMES) == sorted(name for family in FAMILIES for name in family.nets)


@pytest.mark.parametrize("name", NAMES)
def test_tensors_and_sizes_are_those_of_torchvision(name: str, on_meta: Any) -> None:
    with on_meta:
        theirs = torchvision_net(name)
        ours = config_of(name).build(num_classes=1000, in_channels=3)
    backbone, (weight, bias) = split(theirs.state_dict())
    expected = {f"backbone.{key}": value.shape for key, value in backbone.items()}
    expected |= {"head.weight": weight.shape, "head.bias": bias.shape}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected
    millions = round(sum(parameter.numel() for parameter in ours.parameters()) / 1e6, 1)
    assert f", {millions} M parameters" in TorchvisionCnn.summaries()[name]


@pytest.mark.parametrize("name", [*LIGHT, "squeezenet1_1"])
def test_same_seed_draws_the_same_tensors_as_torchvision(name: str) -> None:
    theirs = torchvision_net(name, num_classes=7).state_dict()
    torch.manual_seed(0)
    ours = config_of(name).build(num_classes=7, in_channels=3)
    backbone, (weight, bias) = split(theirs)
    assert torch.equal(ours.head.weight, weight)
    assert torch.equal(ours.head.bias, bias)
    tensors = ours.backbone.state_dict()
    assert all(torch.equal(tensors[key], value) for key, value in backbone.items())


def with_weights_of(net: nn.Module, classifier: Classifier) -> Classifier:
    """Loads the tensors as a plain dict, which is what a checkpoint holds."""
    backbone, (weight, bias) = split(net.state_dict())
    tensors = {f"backbone.{key}": value for key, value in backbone.items()}
    classifier.load_state_dict({**tensors, "head.weight": weight, "head.bias": bias})
    return classifier


def with_statistics_of(images: Tensor, net: nn.Module) -> nn.Module:
    """Sets the running statistics, without which logits of untrained networks vanish; sets eval mode."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    net(images)
    return net.eval()


@pytest.mark.parametrize("name", LIGHT)
def test_logits_with_weights_of_torchvision_are_those_of_torchvision(name: str) -> None:
    images = torch.randn(4, 3, 48, 48)
    theirs = with_statistics_of(images, torchvision_net(name, num_classes=7))
    ours = with_statistics_of(images, config_of(name).build(num_classes=7, in_channels=3))
    assert theirs(images).std() > 1e-3
    assert not torch.allclose(ours(images), theirs(images), atol=1e-5)
    torch.testing.assert_close(with_weights_of(theirs, ours)(images), theirs(images), atol=1e-5, rtol=0)


def test_logits_of_squeezenet_are_those_of_torchvision_without_its_last_relu() -> None:
    theirs = torchvision_net("squeezenet1_1", num_classes=7).eval()
    ours = config_of("squeezenet1_1").build(num_classes=7, in_channels=3).eval()
    images = torch.randn(2, 3, 48, 48)
    logits = with_weights_of(theirs, ours)(images)
    assert not torch.allclose(logits, theirs(images), atol=1e-5)
    theirs.set_submodule("classifier.2", nn.Identity())
    torch.testing.assert_close(logits, theirs(images), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "probability"),
    [("mobilenet_v2", 0.2), ("efficientnet_b4", 0.4), ("vgg11", 0.5), ("googlenet", 0.2)],
)
def test_default_dropout_is_that_of_torchvision_and_stands_once(name: str, probability: float, on_meta: Any) -> None:
    with on_meta:
        theirs = torchvision_net(name)
        ours = config_of(name).build(num_classes=10, in_channels=3)
    assert isinstance(ours.dropout, nn.Dropout)
    assert ours.dropout.p == probability
    dropouts = [sum(isinstance(module, nn.Dropout) for module in net.modules()) for net in (theirs, ours)]
    assert dropouts[0] == dropouts[1]


@pytest.mark.parametrize("name", [name for name in SMALLEST if family_of(name).nets[name][1] < 15])
def test_redrawn_stem_has_the_spread_that_torchvision_gives(name: str) -> None:
    family = family_of(name)
    first = torchvision_net(name).get_submodule(family.first_conv)
    assert isinstance(first, nn.Conv2d)
    redrawn = nn.Conv2d(3, first.out_channels, first.kernel_size[0], bias=first.bias is not None)
    draw_stem_(redrawn, family.stem_init)
    spread, expected = redrawn.weight.std().item(), first.weight.std().item()
    assert abs(spread - expected) < 5 * expected / math.sqrt(first.weight.numel())
    if first.bias is not None:
        assert bool(redrawn.bias.any()) == bool(first.bias.any())


@pytest.mark.parametrize(("how", "std"), [("normal_0.02", 0.02), ("normal_0.1", 0.1)])
def test_truncated_normal_has_the_std_of_its_name(how: Any, std: float) -> None:
    conv = nn.Conv2d(8, 64, 4)
    draw_stem_(conv, how)
    assert abs(conv.weight.std().item() / std - 1) < 0.05
    assert not conv.bias.any()


@torch.no_grad()
def last_map_size(classifier: Classifier, size: int) -> int:
    """Height of what the last convolution gives, so before global pooling."""
    sizes: list[int] = []
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, maps: sizes.append(maps.shape[-1]))
    classifier.eval()(torch.empty(2, 3, size, size, device="meta"))
    return sizes[-1]


@pytest.mark.parametrize("name", WITH_STEM)
def test_small_stem_enlarges_the_last_maps_by_what_it_takes_out(name: str, on_meta: Any) -> None:
    with on_meta:
        plain = config_of(name).build(num_classes=10, in_channels=3)
        small = config_of(name, small_stem=True).build(num_classes=10, in_channels=3)
    stem = family_of(name).small_stem
    assert stem is not None
    factor = 4 if stem.pool else 2
    assert last_map_size(small, 64) == factor * last_map_size(plain, 64)
    assert plain.state_dict().keys() == small.state_dict().keys()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_small_stem_that_changes_only_the_stride_keeps_the_weights(name: str) -> None:
    plain = config_of(name).build(num_classes=3, in_channels=3).state_dict()
    torch.manual_seed(0)
    small = config_of(name, small_stem=True).build(num_classes=3, in_channels=3).state_dict()
    assert all(torch.equal(small[key], tensor) for key, tensor in plain.items())


@pytest.mark.parametrize("name", [name for name in NAMES if family_of(name).small_stem is None])
def test_small_stem_is_refused_where_there_is_none(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config_of(name, small_stem=True)
    (error,) = caught.value.errors()
    assert error["loc"] == ("small_stem",)
    assert error["msg"] == f"Value error, {name} has no stem to change. Remove model.small_stem."


@torch.no_grad()
def runs(classifier: Classifier, size: int) -> bool:
    try:
        classifier.eval()(torch.empty(2, 3, size, size, device="meta"))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "small_stem"),
    [*((name, False) for name in SMALLEST), *((name, True) for name in WITH_STEM)],
)
def test_images_of_the_minimal_size_run_and_smaller_ones_do_not(name: str, small_stem: bool, on_meta: Any) -> None:
    config = config_of(name, small_stem=small_stem)
    with on_meta:
        classifier = config.build(num_classes=10, in_channels=3)
    size = config.min_image_size()
    assert runs(classifier, size)
    if size > 8:
        assert not runs(classifier, size - 1)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_gray_images_train_end_to_end(name: str) -> None:
    config = config_of(name, dropout=0.0)
    classifier = config.build(num_classes=3, in_channels=1)
    size = max(16, config.min_image_size())
    classifier(torch.randn(2, 1, size, size)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


@pytest.mark.parametrize("name", ["regnet_x_400mf", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_an_outline_has_the_tensors_of_the_classifier_and_no_memory(name: str) -> None:
    """RegNet computes its widths with tensors, which need values."""
    built, outlined = config_of(name).build(3, 1).state_dict(), outline(config_of(name), 3, 1).state_dict()
    assert {key: tensor.shape for key, tensor in outlined.items()} == {key: one.shape for key, one in built.items()}
    assert all(tensor.is_meta for tensor in outlined.values() if tensor.dim())
