"""Convolutions of small maps are torch's, computed otherwise: under autocast on a processor with matrix tiles."""

import copy

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional as F

from ptft.models import Model, small_maps
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
def test_either_memory_format_and_gradients_of_maps_or_filters_alone(
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
    nn.Conv2d(64, 128, 3, padding=1),
    nn.Conv2d(128, 64, 3, stride=2, padding=1, bias=False),
    nn.Conv2d(256, 256, 1),
    nn.Conv2d(16, 8, 3, padding=1),
]
_BY_PATCHES, _WIDE, _TORCHS = "_ByPatchesBackward", "_WithWideRowsBackward", "ConvolutionBackward0"


@pytest.mark.parametrize(
    ("conv", "size", "expected"),
    [
        (CONVOLUTIONS[0], (8, 4, 4), _BY_PATCHES),
        (CONVOLUTIONS[0], (32, 4, 4), _BY_PATCHES),
        (CONVOLUTIONS[0], (33, 4, 4), _WIDE),
        (CONVOLUTIONS[0], (2, 7, 7), _BY_PATCHES),
        (CONVOLUTIONS[0], (64, 7, 7), _WIDE),
        (CONVOLUTIONS[0], (2, 8, 8), _TORCHS),
        (CONVOLUTIONS[0], (2, 3, 8), _TORCHS),
        (CONVOLUTIONS[1], (2, 14, 14), _BY_PATCHES),
        (CONVOLUTIONS[2], (100, 7, 7), _BY_PATCHES),
        (CONVOLUTIONS[2], (1, 8, 8), _TORCHS),
        (CONVOLUTIONS[3], (1, 3, 3), _WIDE),
        (nn.Conv2d(64, 113, 3, padding=1), (8, 3, 3), _WIDE),  # 65,088 weights
        (nn.Conv2d(64, 114, 3, padding=1), (8, 3, 3), _BY_PATCHES),  # 65,664
        (nn.Conv2d(64, 16, 1), (8, 3, 3), _TORCHS),
        (nn.Conv2d(64, 16, 3), (8, 5, 5), _TORCHS),
    ],
    ids=str,
)
def test_the_way_follows_from_pixels_and_weights(conv: nn.Conv2d, size: tuple[int, int, int], expected: str) -> None:
    own = copy.deepcopy(conv)
    own.__class__ = SmallMapConv2d
    images = torch.randn(size[0], conv.in_channels, *size[1:])
    with torch.autocast("cpu", torch.bfloat16):
        found = own(images).grad_fn
        assert found is not None
        assert found.name() == expected
        with torch.no_grad():
            assert torch.equal(own(images), conv(images))
    assert torch.equal(own(images), conv(images))


@pytest.mark.parametrize("conv", CONVOLUTIONS, ids=str)
def test_what_follows_may_change_the_result_in_place(conv: nn.Conv2d) -> None:
    own = copy.deepcopy(conv)
    own.__class__ = SmallMapConv2d
    images = torch.randn(8, conv.in_channels, 4, 4)
    results = []
    for one in (own, conv):
        one.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            maps = F.relu(one(images), inplace=True)
        maps.float().square().sum().backward()
        results.append((maps.detach(), one.weight.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))


def test_unbatched_maps_and_float64_are_left_to_torch() -> None:
    own = copy.deepcopy(CONVOLUTIONS[0])
    own.__class__ = SmallMapConv2d
    with torch.autocast("cpu", torch.bfloat16):
        assert own(torch.randn(64, 4, 4)).shape == (128, 4, 4)
        assert own.double()(torch.randn(2, 64, 4, 4, dtype=torch.float64)).dtype == torch.float64


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


@pytest.mark.parametrize(("name", "side"), [("resnet18", 64), ("squeezenet1_1", 64), ("small-vgg", 32)])
def test_a_network_on_tiles_has_the_gradient_of_torchs_convolutions(
    monkeypatch: pytest.MonkeyPatch, name: str, side: int
) -> None:
    """As near as bf16 lets two orders of adding be; SqueezeNet changes the results of its convolutions in place."""
    monkeypatch.setattr(small_maps, "computes_on_tiles", lambda: True)
    torch.manual_seed(0)
    config: Model = TypeAdapter(Model).validate_python({"name": name})
    own = config.build(4, 3)
    plain = copy.deepcopy(own)
    own_parts = [part for part in plain.modules() if isinstance(part, SmallMapConv2d)]
    assert own_parts
    for part in own_parts:
        part.__class__ = nn.Conv2d
    images, labels = torch.randn(8, 3, side, side), torch.arange(8) % 4
    gradients = []
    for net in (own, plain):
        torch.manual_seed(1)  # dropout
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(images)
        F.cross_entropy(logits.float(), labels).backward()
        moved = [parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None]
        gradients.append(torch.cat(moved))
    assert F.cosine_similarity(*gradients, dim=0) > 0.98
