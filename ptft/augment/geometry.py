"""Moves pixels: shift, flip, crop and affine maps of a whole batch, each sample by its own numbers.

Every function is elementwise in the batch dimension (no matrix products, whose rounding depends on the batch
size), so a sample comes out the same bit for bit alone or inside any batch.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["reflect", "zeros"]


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
