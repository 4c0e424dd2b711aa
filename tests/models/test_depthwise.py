"""Depthwise convolutions are torch's, in float32 on a CPU whatever autocast says."""

import copy

import pytest
import torch
from torch import Tensor, nn

from ptft.models.depthwise import DepthwiseConv2d, set_depthwise
from ptft.models.zoo_nets import build_torchvision


def pair(stride: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Torch's convolution, and ours of the same weights."""
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, 3, stride, padding=1, groups=6)
    own = nn.Sequential(copy.deepcopy(plain))
    set_depthwise(own)
    assert type(own[0]) is DepthwiseConv2d
    return plain, own[0]


def passed(conv: nn.Conv2d, images: Tensor, *, low: bool) -> list[Tensor]:
    """Result and gradients of images, weight and bias; of the sum of squares."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        maps = conv(images)
    gradients = torch.autograd.grad(maps.float().square().sum(), [images, *conv.parameters()])
    return [maps.detach(), *gradients]


@pytest.mark.parametrize("stride", [1, 2])
def test_in_float32_it_is_torchs_to_the_bit(stride: int) -> None:
    plain, own = pair(stride)
    images = torch.randn(4, 6, 9, 9)
    for found, expected in zip(passed(own, images, low=False), passed(plain, images, low=False), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_under_autocast_it_is_the_float32_one_rounded_once_and_nearer_to_it_than_torchs(stride: int) -> None:
    plain, own = pair(stride)
    images = torch.randn(4, 6, 9, 9).bfloat16()
    found, rounded = passed(own, images, low=True), passed(plain, images, low=True)
    exact = passed(plain, images.float(), low=False)
    assert found[0].dtype == torch.bfloat16 == rounded[0].dtype
    assert torch.equal(found[0], exact[0].bfloat16())
    for own_one, torchs, best in zip(found[2:], rounded[2:], exact[2:], strict=True):
        errors = [(one.float() - best).norm() / best.norm() for one in (own_one, torchs)]
        assert errors[0] < 0.01
        assert errors[0] <= 1.1 * errors[1]


def test_only_depthwise_convolutions_of_a_network_are_changed_and_no_weight_is() -> None:
    torch.manual_seed(3)
    net = build_torchvision("mobilenet_v3_small", 4, 3, small_stem=False, dropout=None)
    kinds = {
        (isinstance(part, DepthwiseConv2d), part.groups > 1) for part in net.modules() if isinstance(part, nn.Conv2d)
    }
    assert kinds == {(False, False), (True, True)}
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(3)
    theirs = mobilenet_v3_small(num_classes=4).state_dict()
    own = {name.removeprefix("backbone."): tensor for name, tensor in net.state_dict().items()}
    assert all(torch.equal(own[name], theirs[name]) for name in own if not name.startswith("head."))
    grouped = nn.Sequential(nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(1, 4, 3))
    set_depthwise(grouped)
    assert {type(part) for part in grouped} == {nn.Conv2d}
