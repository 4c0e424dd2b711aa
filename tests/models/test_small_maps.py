"""Convolutions of small maps are torch's, computed otherwise: under autocast on a processor with matrix tiles."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ptft.models import small_maps
from ptft.models.small_maps import Geometry, SmallMapConv2d, Way, by_patches, set_small_maps, with_wide_rows
from ptft.models.zoo_nets import build_torchvision
from ptft.runtime import computes_on_tiles

GEOMETRIES = [Geometry(3, 1, 1), Geometry(3, 2, 1), Geometry(5, 1, 2), Geometry(5, 2, 2), Geometry(7, 2, 3)]
PATCHES_ONLY = [Geometry(1, 1, 0), Geometry(1, 2, 0), Geometry(3, 1, 0), Geometry(2, 2, 0), Geometry(3, 1, 2)]
SIZES = [(1, 3, 3), (6, 4, 4), (7, 5, 5), (8, 7, 7), (12, 3, 6), (16, 6, 3), (4, 15, 15)]
"""Images, height, width: one image, a prime number of them, maps that are not square, rows wider than a tile."""


def drawn(size: tuple[int, int, int], geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Maps of 5 channels and 4 filters for them, float64."""
    torch.manual_seed(0)
    number, height, width = size
    filters = torch.randn(4, 5, geometry.side, geometry.side, dtype=torch.float64)
    return torch.randn(number, 5, height, width, dtype=torch.float64), filters


def torchs(maps: Tensor, filters: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    return F.conv2d(maps, filters, bias, stride=geometry.stride, padding=geometry.padding)


def passed(way: Way, maps: Tensor, filters: Tensor, geometry: Geometry) -> list[Tensor]:
    """Result and gradients of maps, filters and bias, of a sum with drawn weights."""
    given = [tensor.clone().requires_grad_() for tensor in (maps, filters, filters[:, 0, 0, 0])]
    result = way(*given, geometry)
    weights = torch.randn(result.shape, dtype=result.dtype, generator=torch.Generator().manual_seed(1))
    return [result.detach(), *torch.autograd.grad((result * weights).sum(), given)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("way", "geometry"),
    [
        *((with_wide_rows, geometry) for geometry in GEOMETRIES),
        *((by_patches, geometry) for geometry in GEOMETRIES + PATCHES_ONLY),
    ],
)
def test_result_and_gradients_are_those_of_torchs_convolution(
    way: Way, geometry: Geometry, size: tuple[int, int, int]
) -> None:
    maps, filters = drawn(size, geometry)
    for found, expected in zip(
        passed(way, maps, filters, geometry), passed(torchs, maps, filters, geometry), strict=True
    ):
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected)


def test_without_padding_between_them_images_in_a_row_would_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = GEOMETRIES[0]
    maps, filters = drawn((8, 7, 7), geometry)
    expected = passed(torchs, maps, filters, geometry)[2]
    wide = small_maps._wide
    monkeypatch.setattr(small_maps, "_wide", lambda maps, together, share: wide(maps, together, maps.shape[3]))
    assert (passed(with_wide_rows, maps, filters, geometry)[2] - expected).abs().max() > 0.1


@pytest.mark.parametrize("way", [by_patches, with_wide_rows])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_either_memory_format_and_only_the_gradients_that_are_needed(
    way: Way, memory_format: torch.memory_format
) -> None:
    geometry = GEOMETRIES[1]
    maps, filters = drawn((6, 7, 7), geometry)
    _, *gradients, _ = passed(torchs, maps, filters, geometry)
    maps, filters = (tensor.to(memory_format=memory_format).requires_grad_() for tensor in (maps, filters))
    weights = torch.randn((6, 4, 4, 4), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for needed, gradient in zip((maps, filters), gradients, strict=True):
        given = [tensor if tensor is needed else tensor.detach() for tensor in (maps, filters)]
        way(*given, None, geometry).backward(weights.to(memory_format=memory_format))
        torch.testing.assert_close(needed.grad, gradient)
    assert not way(maps.detach(), filters.detach(), None, geometry).requires_grad


CONVOLUTIONS = [
    nn.Conv2d(64, 128, 3, padding=1),  # by patches
    nn.Conv2d(128, 64, 3, stride=2, padding=1, bias=False),  # by patches
    nn.Conv2d(256, 256, 1),  # by patches
    nn.Conv2d(16, 8, 3, padding=1),  # wide rows: too few weights for patches
]


@pytest.mark.parametrize("conv", CONVOLUTIONS, ids=str)
def test_under_autocast_it_is_as_near_to_float32_as_torchs_and_elsewhere_torchs_to_the_bit(conv: nn.Conv2d) -> None:
    own = copy.deepcopy(conv)
    own.__class__ = SmallMapConv2d
    torch.manual_seed(0)
    images = torch.randn(8, conv.in_channels, 4, 4)

    def passed(conv: nn.Conv2d, *, low: bool) -> list[Tensor]:
        given = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            maps = conv(given)
        assert maps.dtype == (torch.bfloat16 if low else torch.float32)
        return [maps.detach(), *torch.autograd.grad(maps.float().square().sum(), [given, *conv.parameters()])]

    exact = passed(conv, low=False)
    assert all(map(torch.equal, passed(own, low=False), exact))
    for found, rounded, best in zip(passed(own, low=True), passed(conv, low=True), exact, strict=True):
        errors = [float((one.float() - best).norm() / best.norm()) for one in (found, rounded)]
        assert errors[0] < 0.02
        assert errors[0] <= 1.25 * errors[1] + 1e-6


def test_maps_that_are_large_are_left_to_torch() -> None:
    conv = nn.Conv2d(64, 128, 3, padding=1)
    own = copy.deepcopy(conv)
    own.__class__ = SmallMapConv2d
    images = torch.randn(2, 64, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = own(images), conv(images)
    assert torch.equal(found, expected)
    assert found.grad_fn is not None
    assert found.grad_fn.name() == expected.grad_fn.name() == "ConvolutionBackward0"
    with torch.autocast("cpu", torch.bfloat16):
        assert own(images[:, :, :3, :3]).grad_fn.name() != "ConvolutionBackward0"


def test_convolutions_of_every_kind_but_plain_square_ones_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, 1), nn.Conv2d(4, 4, 5, stride=2)]
    others = [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, (1, 3)),
        nn.Conv2d(4, 4, 3, stride=(1, 2)),
        nn.Conv2d(4, 4, 3, padding=(0, 1)),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Linear(4, 4),
    ]
    net = nn.Sequential(*plain, *others)
    monkeypatch.setattr(small_maps, "computes_on_tiles", lambda: False)
    set_small_maps(net)
    assert not any(isinstance(part, SmallMapConv2d) for part in net)
    monkeypatch.setattr(small_maps, "computes_on_tiles", lambda: True)
    set_small_maps(net)
    assert [isinstance(part, SmallMapConv2d) for part in net] == [True] * len(plain) + [False] * len(others)


def test_a_network_is_built_for_the_processor_and_has_torchvisions_weights() -> None:
    from torchvision.models import resnet18

    torch.manual_seed(3)
    net = build_torchvision("resnet18", 4, 3, small_stem=False, dropout=None)
    kinds = {type(part) for part in net.modules() if isinstance(part, nn.Conv2d)}
    assert kinds == {SmallMapConv2d if computes_on_tiles() else nn.Conv2d}
    torch.manual_seed(3)
    theirs = resnet18(num_classes=4).state_dict()
    own = {name.removeprefix("backbone."): tensor for name, tensor in net.state_dict().items()}
    assert all(torch.equal(own[name], theirs[name]) for name in own if not name.startswith("head."))


def test_a_training_step_on_tiles_moves_the_weights_as_torchs_convolutions_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole ResNet-18: gradients of both ways point the same way, as near as bf16 lets two orders of adding be."""
    monkeypatch.setattr(small_maps, "computes_on_tiles", lambda: True)
    torch.manual_seed(0)
    own = build_torchvision("resnet18", 4, 3, small_stem=False, dropout=None)
    plain = copy.deepcopy(own)
    for part in plain.modules():
        if isinstance(part, SmallMapConv2d):
            part.__class__ = nn.Conv2d
    images, labels = torch.randn(8, 3, 64, 64), torch.arange(8) % 4
    gradients = []
    for net in (own, plain):
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(images)
        F.cross_entropy(logits.float(), labels).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in net.parameters()]))
    assert F.cosine_similarity(*gradients, dim=0) > 0.98
