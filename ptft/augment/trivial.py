"""TrivialAugment-wide: one random operation of one random strength for every image of a batch.

Müller & Hutter 2021 (TrivialAugment: tuning-free yet state-of-the-art data augmentation), the wide search
space in 31 strengths. Images are sorted by operation and each operation runs once on its group. We differ
from the authors' PIL code in interpolating bilinearly and in rounding where PIL truncates.
"""

import math
from collections.abc import Callable
from enum import IntEnum

import torch
from torch import Tensor

from ptft.augment import colour
from ptft.augment.draws import Draws
from ptft.augment.geometry import affine

_BINS = 31


class Op(IntEnum):
    """The operations; the geometric ones stand together because one warp does them all."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOUR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTOCONTRAST = 12
    EQUALIZE = 13


def trivial_augment(images: Tensor, draws: Draws) -> Tensor:
    """Applies a random operation at a random signed strength to each image.

    Args:
        images: uint8 (B, C, S, S), C = 1 or 3.
        draws: where the numbers come from; three calls.

    Returns:
        uint8 (B, C, S, S).
    """
    ops, levels = random_ops(draws)
    return apply_ops(images, ops, levels)


def random_ops(draws: Draws) -> tuple[Tensor, Tensor]:
    """An operation (int64) and a level in [-1, 1] (float64) for each sample, both (B,); three calls."""
    ops = draws.integers(0, len(Op))[:, 0]
    bins = draws.integers(0, _BINS)[:, 0]
    signs = torch.where(draws.coin(0.5), 1.0, -1.0).to(torch.float64)
    return ops, signs * bins / (_BINS - 1)


def apply_ops(images: Tensor, ops: Tensor, levels: Tensor) -> Tensor:
    """Applies to each image its operation.

    Args:
        images: uint8 (B, C, S, S), C = 1 or 3.
        ops: int64 (B,), values of `Op`.
        levels: float64 (B,) in [-1, 1], the strength as a fraction of the widest; operations without a
            direction take its magnitude, operations without a strength ignore it.

    Returns:
        uint8 (B, C, S, S).
    """
    geometric = (ops >= Op.SHEAR_X) & (ops <= Op.ROTATE)
    kinds = torch.where(geometric, int(Op.SHEAR_X), ops)
    order = kinds.argsort(stable=True)
    # The sizes of the groups are read back together: a GPU waits once per batch, not once per operation.
    counts = kinds.bincount(minlength=len(Op)).tolist()
    groups = zip(Op, *(torch.split(each[order], counts) for each in (images, ops, levels)), strict=True)
    done = [_apply(kind, *group) for kind, *group in groups if len(group[0])]
    return torch.empty_like(images).index_copy_(0, order, torch.cat(done)) if done else images


def _apply(kind: Op, images: Tensor, ops: Tensor, levels: Tensor) -> Tensor:
    if kind is Op.IDENTITY:
        return images
    if kind is Op.SHEAR_X:
        return _to_uint8(affine(images, matrices(ops, levels, images.shape[-1])))
    if kind in _BLENDS:
        return _to_uint8(_BLENDS[kind](images.to(torch.float32), (1 + 0.99 * levels).to(torch.float32)))
    if kind is Op.POSTERIZE:
        return colour.posterize(images, (8 - 6 * levels.abs()).round().to(torch.int64))
    if kind is Op.SOLARIZE:
        return colour.solarize(images, (255 * (1 - levels.abs())).to(torch.float32))
    return _histogram_op(kind, images)


_BLENDS: dict[Op, Callable[[Tensor, Tensor], Tensor]] = {
    Op.BRIGHTNESS: colour.brightness,
    Op.COLOUR: colour.saturation,
    Op.CONTRAST: colour.contrast,
    Op.SHARPNESS: colour.sharpness,
}


def _histogram_op(kind: Op, images: Tensor) -> Tensor:
    # Imported here: it takes seconds, and every other augmentation does without.
    from torchvision.transforms.v2 import functional

    result: Tensor = functional.autocontrast(images) if kind is Op.AUTOCONTRAST else functional.equalize(images)
    return result


def matrices(ops: Tensor, levels: Tensor, size: int) -> Tensor:
    """The affine maps of the geometric operations, in the form that `affine` takes.

    Shears leave the top left corner in place, as in PIL; rotations turn about the centre, positive levels
    counter-clockwise; a positive translation moves the picture right or down by whole pixels.

    Args:
        ops: int64 (B,), geometric values of `Op`.
        levels: float64 (B,) in [-1, 1].
        size: S, the side of the image in pixels.

    Returns:
        float32 (B, 2, 3).
    """
    shear_x, shear_y = (0.99 * levels * (ops == op) for op in (Op.SHEAR_X, Op.SHEAR_Y))
    move_x, move_y = ((32 * levels).trunc() * (ops == op) for op in (Op.TRANSLATE_X, Op.TRANSLATE_Y))
    angle = math.radians(135) * levels * (ops == Op.ROTATE)
    cos, sin = angle.cos(), angle.sin()
    to_x = (cos, shear_x - sin, shear_x * (size / 2) - move_x)
    to_y = (shear_y + sin, cos, shear_y * (size / 2) - move_y)
    return torch.stack((*to_x, *to_y), dim=1).view(-1, 2, 3).to(torch.float32)


def _to_uint8(images: Tensor) -> Tensor:
    return images.round_().to(torch.uint8)
