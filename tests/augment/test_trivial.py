"""Each operation of TrivialAugment equals torchvision's kernel on each image alone; all are drawn evenly."""

import math
from functools import partial

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional

from ptft.augment.trivial import Op, apply_ops, matrices, random_ops, trivial_augment

LEVELS = (-1.0, -0.5, -1 / 30, 0.0, 0.4, 28 / 30, 1.0)
warp = partial(functional.affine, angle=0.0, scale=1.0, interpolation=functional.InterpolationMode.BILINEAR)


def reference(image: Tensor, op: Op, level: float) -> Tensor:
    """As torchvision's TrivialAugmentWide applies it, blends on floats since we round where it truncates."""
    shear, move, factor, scaled = (
        math.degrees(math.atan(0.99 * level)),
        int(32 * level),
        1 + 0.99 * level,
        image / 255,
    )
    match op:
        case Op.SHEAR_X:
            return warp(image, translate=[0, 0], shear=[shear, 0.0], center=[0, 0])
        case Op.SHEAR_Y:
            return warp(image, translate=[0, 0], shear=[0.0, shear], center=[0, 0])
        case Op.TRANSLATE_X:
            return warp(image, translate=[move, 0], shear=[0.0, 0.0])
        case Op.TRANSLATE_Y:
            return warp(image, translate=[0, move], shear=[0.0, 0.0])
        case Op.ROTATE:
            return functional.rotate(image, 135 * level, functional.InterpolationMode.BILINEAR)
        case Op.BRIGHTNESS:
            return functional.adjust_brightness(scaled, factor) * 255
        case Op.COLOUR:
            return functional.adjust_saturation(scaled, factor) * 255
        case Op.CONTRAST:
            return functional.adjust_contrast(scaled, factor) * 255
        case Op.SHARPNESS:
            return functional.adjust_sharpness(scaled, factor) * 255
        case Op.POSTERIZE:
            return functional.posterize(image, round(8 - 6 * abs(level)))
        case Op.SOLARIZE:
            return functional.solarize(image, 255 * (1 - abs(level)))
        case Op.AUTOCONTRAST:
            return functional.autocontrast(image)
        case Op.EQUALIZE:
            return functional.equalize(image)
    return image


def every_op_at_every_level() -> tuple[Tensor, Tensor]:
    """In a mixed order, so that groups are not already sorted."""
    pairs = [(int(op), level) for level in LEVELS for op in Op]
    return torch.tensor([op for op, _ in pairs]), torch.tensor([level for _, level in pairs]).double()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 65])
def test_every_operation_equals_torchvision_within_rounding(make_images, channels: int, size: int) -> None:
    ops, levels = every_op_at_every_level()
    images = make_images(len(ops), channels, size)
    images[1::3] = images[1::3] // 3 + 40
    results = apply_ops(images, ops, levels)
    for image, result, op, level in zip(images, results, ops.tolist(), levels.tolist(), strict=True):
        difference = (result - reference(image, Op(op), level).float()).abs().max().item()
        # Rounded warps may fall on either side of a half; blends are compared before rounding.
        assert difference <= (1 if Op.SHEAR_X <= op <= Op.ROTATE else 0.51), (Op(op).name, level)


def test_the_comparison_notices_a_strength_of_the_other_sign(make_images) -> None:
    image = make_images(1)
    for op in (
        Op.SHEAR_X,
        Op.SHEAR_Y,
        Op.TRANSLATE_X,
        Op.TRANSLATE_Y,
        Op.ROTATE,
        Op.BRIGHTNESS,
        Op.SHARPNESS,
    ):
        result = apply_ops(image, torch.tensor([op]), torch.tensor([-0.4]).double())[0]
        assert (result - reference(image[0], op, 0.4).float()).abs().max() > 5, op.name


def test_level_zero_changes_nothing_where_there_is_a_strength(make_images) -> None:
    ops = torch.arange(Op.AUTOCONTRAST)
    ops = ops[ops != Op.SOLARIZE]
    images = make_images(len(ops))
    assert torch.equal(apply_ops(images, ops, torch.zeros(len(ops)).double()), images)


def test_matrices_of_opposite_rotations_undo_each_other() -> None:
    levels = torch.tensor([0.3, -0.3]).double()
    there, back = matrices(torch.tensor([Op.ROTATE, Op.ROTATE]), levels, 28)[:, :, :2]
    torch.testing.assert_close(there @ back, torch.eye(2))


def test_operations_and_strengths_are_drawn_evenly(make_draws) -> None:
    ops, levels = random_ops(make_draws(torch.arange(20_000)))
    bins = (levels.abs() * 30).round().long()
    assert stats.chisquare(ops.bincount(minlength=14).numpy()).pvalue > 1e-3
    assert stats.chisquare(bins.bincount(minlength=31).numpy()).pvalue > 1e-3
    assert stats.binomtest(int((levels > 0).sum()), int((levels != 0).sum())).pvalue > 1e-3
    assert stats.pearsonr(ops.numpy(), levels.numpy()).pvalue > 1e-3


def test_an_empty_batch_stays_empty(make_images, make_draws) -> None:
    empty = make_images(0)
    assert trivial_augment(empty, make_draws(torch.arange(0))).shape == empty.shape
