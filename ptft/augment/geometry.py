"""Moves pixels: shift, flip, crop and affine maps of a whole batch, each sample by its own numbers.

Every function is elementwise in the batch dimension (no matrix products, whose rounding depends on the batch
size), so a sample comes out the same bit for bit alone or inside any batch.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["reflect", "zeros"]

_PORTION = 1 << 20
"""Numbers that a CPU scales at once: a few images that stay in its caches, a third faster than a whole batch."""


def shift_crop(images: Tensor, shifts: Tensor, flipped: Tensor, padding: Padding) -> Tensor:
    """Pads, crops back at an offset and mirrors where asked, in one gather that keeps the dtype.

    Args:
        images: (B, C, S, S), any dtype.
        shifts: int64 (B, 2), rows and columns from the image's own place to the crop's, each in (-S, S).
        flipped: bool (B,), whether the crop is mirrored left to right.
        padding: what lies outside: the image mirrored about its edge pixels, or zeros.

    Returns:
        (B, C, S, S) of the same dtype.
    """
    batch, channels, size, _ = images.shape
    steps = torch.arange(size, device=images.device)
    rows = steps + shifts[:, :1]
    columns = torch.where(flipped[:, None], steps.flip(0), steps) + shifts[:, 1:]
    places = (_inside(rows, size) * size)[:, :, None] + _inside(columns, size)[:, None, :]
    places = places.view(batch, 1, size * size).expand(-1, channels, -1)
    moved = images.reshape(batch, channels, size * size).gather(2, places).view(images.shape)
    if padding == "reflect":
        return moved
    known = _is_inside(rows, size)[:, :, None] & _is_inside(columns, size)[:, None, :]
    return moved.mul_(known[:, None])


def _inside(positions: Tensor, size: int) -> Tensor:
    """Reflects positions in (-size, 2 size - 1) into [0, size), the edge pixel being the mirror."""
    last = size - 1
    return last - (last - positions.abs()).abs()


def _is_inside(positions: Tensor, size: int) -> Tensor:
    return (positions >= 0) & (positions < size)


def resized_crop(images: Tensor, boxes: Tensor, flipped: Tensor) -> Tensor:
    """Scales one box of every image back to the full side, bilinearly.

    The same as torchvision's `resized_crop` with `antialias=False`: pixels outside the box are never read.
    Boxes are only ever enlarged, so there is nothing to antialias.

    Args:
        images: (B, C, S, S), uint8 or float32, in [0, 255].
        boxes: int64 (B, 4): top, left, height, width, inside the image.
        flipped: bool (B,), whether the result is mirrored left to right.

    Returns:
        float32 (B, C, S, S) in [0, 255].
    """
    size = images.shape[-1]
    top, left, height, width = boxes.to(torch.float32)[:, :, None].unbind(1)
    rows = _spread(top, height, size)
    columns = _spread(left, width, size)
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    grid = torch.stack((columns[:, None, :].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)), dim=3)
    crops = F.grid_sample(images.to(torch.float32), grid, padding_mode="border", align_corners=False)
    # The four weights of a pixel may sum to a little more than 1 in float32.
    return crops.clamp_(0, 255)


def _spread(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where `size` pixel centres spread over [start, start + length) lie, in grid_sample's [-1, 1].

    Args:
        start: float32 (B, 1), pixels.
        length: float32 (B, 1), pixels.
        size: pixels of the source and of the result.

    Returns:
        float32 (B, size).
    """
    centres = torch.arange(size, device=start.device) + 0.5
    positions = start + (centres * (length / size) - 0.5).clamp(min=0).minimum(length - 1)
    return (2 * positions + 1) / size - 1


def scaled_crop(images: Tensor, boxes: Tensor, flipped: Tensor, size: int) -> Tensor:
    """Scales one box of every image to another side, bilinearly, with antialiasing where that makes it smaller.

    The same as torchvision's `resized_crop` with `antialias=True`: pixels outside the box are never read.

    Args:
        images: (B, C, S, S), uint8 or float32, in [0, 255].
        boxes: int64 (B, 4): top, left, height, width, inside the image.
        flipped: bool (B,), whether the result is mirrored left to right.
        size: T, the side of the result in pixels.

    Returns:
        float32 (B, C, T, T) in [0, 255].
    """
    batch, channels, side, _ = images.shape
    top, left, height, width = boxes.unbind(1)
    rows, row_weights = _taps(top, height, size, side)
    columns, column_weights = _taps(left, width, size, side)
    columns = torch.where(flipped[:, None, None], columns.flip(1), columns)
    column_weights = torch.where(flipped[:, None, None], column_weights.flip(1), column_weights)
    crops = torch.empty(batch, channels, size, size, device=images.device)
    portion = batch if images.is_cuda else max(1, _PORTION // (channels * side * side))
    for start in range(0, batch, portion):
        some = slice(start, start + portion)
        scaled = _weighted_rows(images[some].to(torch.float32), rows[some], row_weights[some])
        turned = _weighted_rows(scaled.transpose(2, 3), columns[some], column_weights[some])
        crops[some] = turned.transpose(2, 3)
    # The weights of a pixel may sum to a little more than 1 in float32.
    return crops.clamp_(0, 255)


def _taps(start: Tensor, length: Tensor, size: int, side: int) -> tuple[Tensor, Tensor]:
    """What each of `size` pixels spread over [start, start + length) is made of: a triangle of its neighbours.

    The triangle reaches one pixel to either side where the box is enlarged, and as many as one pixel of the result
    covers where it is reduced; as in Pillow and torch, it is cut off at the edge of the box.

    Args:
        start: int64 (B,), pixels.
        length: int64 (B,), pixels.
        size: pixels of the result.
        side: pixels of the image, which bounds `length`.

    Returns:
        places: int64 (B, size, K), of pixels of the image.
        weights: float32 (B, size, K), of sum 1.
    """
    count = math.ceil(2 * max(side / size, 1.0))
    # float64: a last-bit difference between devices must not move a triangle by a pixel.
    scale = length.to(torch.float64)[:, None] / size
    reach = scale.clamp(min=1)
    centres = scale * (torch.arange(size, device=start.device) + 0.5)
    first = (centres - reach + 0.5).floor().clamp(min=0)
    offsets = first[:, :, None] + torch.arange(count, device=start.device)
    weights = (1 - ((offsets + 0.5 - centres[:, :, None]) / reach[:, :, None]).abs()).clamp(min=0)
    weights = weights * (offsets < length[:, None, None])
    places = start[:, None, None] + offsets.to(torch.int64).minimum(length[:, None, None] - 1)
    return places, (weights / weights.sum(dim=2, keepdim=True)).to(torch.float32)


def _weighted_rows(images: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows of every image, the same in each channel.

    Args:
        images: float32 (B, C, H, W).
        places: int64 (B, T, K), rows.
        weights: float32 (B, T, K).

    Returns:
        float32 (B, C, T, W).
    """
    batch, channels, height, width = images.shape
    first_rows = height * torch.arange(batch * channels, device=images.device).view(batch, channels, 1, 1)
    bags = (first_rows + places[:, None]).flatten(0, 2)
    # A bag of rows is summed one after the other, without a copy of them, and for itself whatever else there is.
    sums = F.embedding_bag(
        bags,
        images.reshape(-1, width),
        mode="sum",
        per_sample_weights=weights[:, None].expand(-1, channels, -1, -1).flatten(0, 2),
    )
    return sums.view(batch, channels, -1, width)


def affine(images: Tensor, matrices: Tensor) -> Tensor:
    """Warps every image by its own affine map, bilinearly; zeros come in from outside.

    Args:
        images: (B, C, S, S), uint8 or float32.
        matrices: float32 (B, 2, 3), from a place (x right, y down, 1) in the result to the place in the image
            that it is read from, in pixels from the centre.

    Returns:
        float32 (B, C, S, S), within [0, maximum of the input] up to rounding.
    """
    size = images.shape[-1]
    steps = torch.arange(size, device=images.device) - (size - 1) / 2
    grid = (
        matrices[:, None, None, :, 0] * steps[None, None, :, None]
        + matrices[:, None, None, :, 1] * steps[None, :, None, None]
        + matrices[:, None, None, :, 2]
    )
    return F.grid_sample(images.to(torch.float32), grid * (2 / size), padding_mode="zeros", align_corners=False)
