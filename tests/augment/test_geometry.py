"""Shifts, crops and warps equal naive loops and torchvision's kernels."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional

from ptft.augment.geometry import Padding, affine, resized_crop, scaled_crop, shift_crop

NEVER = torch.zeros(6, dtype=torch.bool)
MIXED = torch.tensor([True, False, True, False, False, True])
SHIFTS = torch.tensor([[0, 0], [4, -4], [-3, 2], [1, 0], [-4, -4], [0, 3]])
BOXES = torch.tensor([[0, 0, 28, 28], [3, 5, 17, 11], [0, 20, 28, 8], [27, 27, 1, 1], [10, 0, 1, 28], [2, 1, 26, 27]])


def naive_shift_crop(images: Tensor, shifts: Tensor, flipped: Tensor, padding: Padding) -> Tensor:
    size, pad = images.shape[-1], 4
    mode = "reflect" if padding == "reflect" else "constant"
    results = []
    for image, (down, right), mirrored in zip(images, shifts.tolist(), flipped.tolist(), strict=True):
        padded = F.pad(image[None].float(), (pad,) * 4, mode=mode)[0]
        crop = padded[:, pad + down : pad + down + size, pad + right : pad + right + size]
        results.append(crop.flip(2) if mirrored else crop)
    return torch.stack(results)


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shift_crop_equals_padding_and_cropping_each_image(
    make_images, padding: Padding, channels: int, dtype: torch.dtype
) -> None:
    images = make_images(6, channels, 28).to(dtype)
    moved = shift_crop(images, SHIFTS, MIXED, padding)
    assert moved.dtype == dtype
    assert torch.equal(moved.float(), naive_shift_crop(images, SHIFTS, MIXED, padding))


def test_the_naive_loop_notices_a_wrong_shift_a_wrong_flip_and_a_wrong_padding(make_images) -> None:
    images = make_images(6)
    expected = naive_shift_crop(images, SHIFTS, MIXED, "reflect")
    assert not torch.equal(shift_crop(images, -SHIFTS, MIXED, "reflect").float(), expected)
    assert not torch.equal(shift_crop(images, SHIFTS, ~MIXED, "reflect").float(), expected)
    assert not torch.equal(shift_crop(images, SHIFTS, MIXED, "zeros").float(), expected)


def test_no_shift_and_no_flip_change_nothing(make_images) -> None:
    images = make_images(6)
    assert torch.equal(shift_crop(images, torch.zeros_like(SHIFTS), NEVER, "zeros"), images)


def test_images_that_are_not_contiguous_move_the_same(make_images) -> None:
    images = make_images(6)
    channels_last = images.to(memory_format=torch.channels_last)
    assert torch.equal(
        shift_crop(channels_last, SHIFTS, MIXED, "reflect"), shift_crop(images, SHIFTS, MIXED, "reflect")
    )


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_resized_crop_equals_torchvision_on_each_box(make_images, channels: int) -> None:
    images = make_images(6, channels, 28)
    expected = [
        functional.resized_crop(image.float(), *box, size=[28, 28], antialias=False)
        for image, box in zip(images, BOXES.tolist(), strict=True)
    ]
    torch.testing.assert_close(resized_crop(images, BOXES, NEVER), torch.stack(expected), rtol=0, atol=0.01)


def test_resized_crop_mirrors_the_crop_where_asked(make_images) -> None:
    images = make_images(6)
    plain = resized_crop(images, BOXES, NEVER)
    expected = torch.where(MIXED[:, None, None, None], plain.flip(3), plain)
    assert torch.equal(resized_crop(images, BOXES, MIXED), expected)


def test_the_comparison_notices_a_box_that_is_one_pixel_off(make_images) -> None:
    images = make_images(6)
    moved = BOXES.clone()
    moved[1, 0] += 1
    assert (resized_crop(images, moved, NEVER) - resized_crop(images, BOXES, NEVER)).abs().max() > 10


def naive_scaled_crop(images: Tensor, boxes: Tensor, size: int, antialias: bool = True) -> Tensor:
    crops = [
        functional.resized_crop(image.float(), *box, size=[size, size], antialias=antialias)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.stack(crops)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 20, 27, 40])
def test_scaled_crop_equals_torchvision_with_antialiasing_on_each_box(make_images, channels: int, size: int) -> None:
    images = make_images(6, channels, 28)
    expected = naive_scaled_crop(images, BOXES, size)
    torch.testing.assert_close(scaled_crop(images, BOXES, NEVER, size), expected, rtol=0, atol=0.01)


def test_the_comparison_notices_a_crop_that_is_not_antialiased(make_images) -> None:
    images = make_images(6, 3, 28)
    aliased = naive_scaled_crop(images, BOXES, 8, antialias=False)
    assert (scaled_crop(images, BOXES, NEVER, 8) - aliased).abs().max() > 10


def test_scaled_crop_mirrors_the_crop_where_asked(make_images) -> None:
    plain = scaled_crop(make_images(6), BOXES, NEVER, 20)
    expected = torch.where(MIXED[:, None, None, None], plain.flip(3), plain)
    assert torch.equal(scaled_crop(make_images(6), BOXES, MIXED, 20), expected)


def test_an_image_scales_the_same_bit_for_bit_in_another_portion_of_the_batch(
    make_images, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scaled_crop(make_images(6), BOXES, MIXED, 20)
    monkeypatch.setattr("ptft.augment.geometry._PORTION", 4 * 3 * 28 * 28)
    assert torch.equal(scaled_crop(make_images(6), BOXES, MIXED, 20), expected)


@pytest.mark.parametrize("size", [28, 65])
def test_affine_with_the_identity_changes_nothing(make_images, size: int) -> None:
    images = make_images(4, 3, size)
    identity = torch.eye(2, 3).expand(4, -1, -1)
    torch.testing.assert_close(affine(images, identity), images.float(), rtol=0, atol=0.01)


def test_affine_reads_zeros_from_outside(make_images) -> None:
    far = torch.tensor([[1.0, 0.0, 100.0], [0.0, 1.0, 0.0]]).expand(4, -1, -1)
    assert affine(make_images(4), far).eq(0).all()
