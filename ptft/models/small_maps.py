"""Convolutions of small maps at full speed on a CPU with matrix tiles (Intel AMX).

oneDNN computes a convolution there row by row: a tile of 16 pixels (forward) or 32 (gradient of the weights) is filled
from one row of the map, and the rest of it is zeros. With maps of 3 pixels most of the arithmetic is wasted; ResNet-18
at 96 pixels spent a third of its step so. Two ways around it compute the same sums, in another order:

- **Patches**, where there are few pixels and many weights: the convolution is one matrix product of all patches, laid
  out as rows, with the filters (Chellapilla, Puri & Simard 2006, "High performance convolutional neural networks for
  document processing", section 3), and so are its gradients.
- **Wide rows**, for other small maps: the gradient of the weights is taken with maps of several images side by side,
  with the padding between them, so that a row fills a tile. All else is torch's.

`scripts/bench/convolutions.py` measures what they bring.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from ptft.runtime import computes_on_tiles

_Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, None]
"""Of maps, filters and bias."""

_SMALL = 7
"""Side of the result up to which a row of it leaves too much of a tile empty."""
_FEW_PIXELS, _MANY_WEIGHTS = 512, 1 << 16
"""Patches pay where the result has few pixels, of all images together, and there are many weights, on which oneDNN then
spends its time. Of 1x1 filters they pay for any number of pixels, being the pixels as they lie."""
_TILE, _ROW = 32, 64
"""Pixels of a row that fill a tile, and of a wide row at most."""


class Geometry(NamedTuple):
    """Of a convolution with square filters: their side, the stride, and the zeros around the maps, in pixels."""

    side: int
    stride: int
    padding: int

    def side_of_result(self, side: int) -> int:
        """Of maps of this side."""
        return (side + 2 * self.padding - self.side) // self.stride + 1


Way = Callable[[Tensor, Tensor, Tensor | None, Geometry], Tensor]
"""How to convolve: `by_patches`, `with_wide_rows`."""


class SmallMapConv2d(nn.Conv2d):
    """A convolution that a CPU computes in another way in training under autocast, where maps are small.

    Elsewhere it is torch's to the bit. That includes evaluation, where an image's result must not depend on how many
    others there are, as the choice of the way does.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that torch gives it)
        """As `nn.Conv2d`."""
        if not (input.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
            return super().forward(input)
        if input.ndim != 4 or input.dtype == torch.float64:  # autocast leaves float64 as it is
            return super().forward(input)
        geometry = Geometry(self.kernel_size[0], self.stride[0], int(self.padding[0]))
        way = _way(geometry, input.shape, self.weight.numel())
        if way is None:
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu")
        return way(input.to(dtype), self.weight.to(dtype), self.bias, geometry)


def set_small_maps(net: nn.Module) -> None:
    """Makes convolutions of a network, in place, ones of this module, where the processor has tiles; weights stay."""
    for part in net.modules() if computes_on_tiles() else ():
        if type(part) is nn.Conv2d and _fits(part):
            part.__class__ = SmallMapConv2d


def _way(geometry: Geometry, shape: torch.Size, num_weights: int) -> Way | None:
    """The fastest way to convolve maps of this shape; None is torch's."""
    height, width = (geometry.side_of_result(side) for side in shape[2:])
    if min(height, width) < 1 or max(height, width) > _SMALL:
        return None
    if num_weights >= _MANY_WEIGHTS and (geometry.side == 1 or shape[0] * height * width <= _FEW_PIXELS):
        return by_patches
    return with_wide_rows if geometry.side == 2 * geometry.padding + 1 > 1 else None


def _fits(conv: nn.Conv2d) -> bool:
    """Square filters that see all channels, without dilation, and with zeros around the maps."""
    is_square = all(len({*pair}) == 1 for pair in (conv.kernel_size, conv.stride, conv.padding))
    return is_square and conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"


def by_patches(maps: Tensor, filters: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """A convolution as one matrix product.

    Args:
        maps: (B, C, H, W).
        filters: (K, C, S, S), of the same dtype.
        bias: (K,), of any dtype.
        geometry: of the filters.

    Returns:
        (B, K, H', W') in the memory format channels_last.
    """
    result: Tensor = _ByPatches.apply(maps, filters, bias, geometry)
    return result


def with_wide_rows(maps: Tensor, filters: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """torch's own convolution but for the gradient of the filters; as `by_patches`, with S = 2 padding + 1."""
    result: Tensor = _WithWideRows.apply(maps, filters, bias, geometry)
    return result


class _ByPatches(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, filters: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(maps, filters)
        ctx.geometry = geometry
        height, width = (geometry.side_of_result(side) for side in maps.shape[2:])
        result = torch.empty(
            (len(maps), len(filters), height, width), dtype=maps.dtype, memory_format=torch.channels_last
        )
        # Written into: autograd lets nothing change a view that was made here in place, as a ReLU after it may.
        pixels = result.permute(0, 2, 3, 1).view(-1, len(filters))
        patches, rows = _patches(maps, geometry), _as_rows(filters).T
        if bias is None:
            torch.mm(patches, rows, out=pixels)
        else:
            torch.addmm(bias.to(maps.dtype), patches, rows, out=pixels)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> _Gradients:
        maps, filters = ctx.saved_tensors
        to_maps = to_filters = None
        pixels = gradient.permute(0, 2, 3, 1).flatten(0, 2)
        if ctx.needs_input_grad[0]:
            to_maps = _put_together(pixels @ _as_rows(filters), maps, ctx.geometry)
        if ctx.needs_input_grad[1]:
            sums = pixels.T @ _patches(maps, ctx.geometry)
            to_filters = sums.view(len(filters), *filters.shape[2:], -1).permute(0, 3, 1, 2)
        return to_maps, to_filters, _to_bias(gradient, ctx), None


def _as_rows(filters: Tensor) -> Tensor:
    """Filters (K, C, S, S) as (K, S * S * C): no copy where their memory format is channels_last."""
    return filters.permute(0, 2, 3, 1).flatten(1)


def _patches(maps: Tensor, geometry: Geometry) -> Tensor:
    """What each pixel of the result is computed from, (B * H' * W', S * S * C); of 1x1 filters often no copy."""
    side, stride, padding = geometry
    pixels = maps.permute(0, 2, 3, 1)
    framed = F.pad(pixels, (0, 0, *(padding,) * 4)) if padding else pixels
    windows = framed.unfold(1, side, stride).unfold(2, side, stride)  # (B, H', W', C, S, S)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, side * side * maps.shape[1])


def _put_together(patches: Tensor, maps: Tensor, geometry: Geometry) -> Tensor:
    """The gradient of the maps from that of their patches: what `_patches` took apart, added up in float32."""
    side, stride, padding = geometry
    number, channels, *sides = maps.shape
    height, width = (geometry.side_of_result(length) for length in sides)
    if geometry == (1, 1, 0):
        return patches.view(number, height, width, channels).permute(0, 3, 1, 2)
    windows = patches.view(number, height, width, side, side, channels)
    framed = [length + 2 * padding for length in sides]
    sums = patches.new_zeros(number, *framed, channels, dtype=_wider(patches.dtype))
    for row in range(side):
        for column in range(side):
            reached = sums[:, row : row + stride * height : stride, column : column + stride * width : stride]
            reached += windows[:, :, :, row, column]
    inner = sums[:, padding : padding + sides[0], padding : padding + sides[1]]
    return inner.to(maps.dtype).permute(0, 3, 1, 2)


class _WithWideRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, filters: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(maps, filters)
        ctx.geometry = geometry
        added = None if bias is None else bias.to(maps.dtype)
        return F.conv2d(maps, filters, added, stride=geometry.stride, padding=geometry.padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> _Gradients:
        (maps, filters), geometry = ctx.saved_tensors, ctx.geometry
        to_maps = to_filters = None
        if ctx.needs_input_grad[0]:
            to_maps = conv2d_input(maps.shape, filters, gradient, geometry.stride, geometry.padding)
        if ctx.needs_input_grad[1]:
            # An image's share of a row; from the right edge of one to the left edge of the next there is the padding.
            share = -(-(maps.shape[3] + geometry.padding) // geometry.stride)
            together = _in_a_row(len(maps), share)
            wide_maps, wide_gradient = _wide(maps, together, geometry.stride * share), _wide(gradient, together, share)
            to_filters = conv2d_weight(wide_maps, filters.shape, wide_gradient, geometry.stride, geometry.padding)
        return to_maps, to_filters, _to_bias(gradient, ctx), None


def _in_a_row(number: int, share: int) -> int:
    """How many of so many images: a divisor of their number that leaves the least of the tiles empty."""
    divisors = [divisor for divisor in range(1, 1 + max(1, _ROW // share)) if number % divisor == 0]
    return max(divisors, key=lambda together: (together * share / -(-together * share // _TILE), together))


def _to_bias(gradient: Tensor, ctx: Any) -> Tensor | None:
    return gradient.sum((0, 2, 3), dtype=_wider(gradient.dtype)) if ctx.needs_input_grad[2] else None


def _wider(dtype: torch.dtype) -> torch.dtype:
    """What sums are kept in."""
    return torch.promote_types(dtype, torch.float32)


def _wide(maps: Tensor, together: int, share: int) -> Tensor:
    """Maps (B, C, H, W) side by side, (B / together, C, H, together * share), with zeros up to the share of each."""
    number, channels, height, width = maps.shape
    wide = maps.new_zeros(number // together, height, together, share, channels)
    by_place = maps.permute(0, 2, 3, 1).unflatten(0, (-1, together))
    wide[:, :, :, :width] = by_place.permute(0, 2, 1, 3, 4)
    return wide.flatten(2, 3).permute(0, 3, 1, 2)
