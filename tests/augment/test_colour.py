"""Colour operations with one factor per image equal torchvision's kernels on each image alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from ptft.augment import colour

FACTORS = torch.tensor([0.0, 0.3, 1.0, 1.25, 1.99])
TURNS = torch.tensor([-0.5, -0.1, 0.0, 0.2, 0.5])
OPERATIONS = {
    "brightness": (colour.brightness, functional.adjust_brightness, FACTORS),
    "contrast": (colour.contrast, functional.adjust_contrast, FACTORS),
    "saturation": (colour.saturation, functional.adjust_saturation, FACTORS),
    "sharpness": (colour.sharpness, functional.adjust_sharpness, FACTORS),
    "hue": (colour.hue, functional.adjust_hue, TURNS),
}


def on_each_image(kernel: Callable[[Tensor, float], Tensor], images: Tensor, factors: Tensor) -> Tensor:
    """Torchvision's float kernels take [0, 1]."""
    pairs = zip(images, factors.tolist(), strict=True)
    return torch.stack([kernel(image / 255, factor) * 255 for image, factor in pairs])


def colours(make_images, channels: int) -> Tensor:
    """Noise, with greys, primaries and ties between channels, where hue has its special cases."""
    images = make_images(5, channels).float()
    images[:, :, :4] = images[:, :1, :4]
    images[:, :2, 4:6] = 255
    images[:, 1:, 6:8] = 0
    return images


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_operation_equals_torchvision_on_each_image(make_images, name: str, channels: int) -> None:
    operation, kernel, factors = OPERATIONS[name]
    images = colours(make_images, channels)
    expected = on_each_image(kernel, images, factors)
    torch.testing.assert_close(operation(images, factors), expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_comparison_notices_factors_that_are_swapped(make_images, name: str) -> None:
    operation, kernel, factors = OPERATIONS[name]
    images = colours(make_images, 3)
    expected = on_each_image(kernel, images, factors)
    assert (operation(images, factors.roll(1)) - expected).abs().max() > 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_leaves_its_input_alone_and_does_nothing_at_no_strength(make_images, name: str) -> None:
    operation = OPERATIONS[name][0]
    images = colours(make_images, 3)
    before = images.clone()
    nothing = torch.full((5,), 0.0 if name == "hue" else 1.0)
    torch.testing.assert_close(operation(images, nothing), images, rtol=0, atol=1e-3)
    operation(images, FACTORS)
    assert torch.equal(images, before)


@pytest.mark.parametrize("operation", [colour.saturation, colour.hue])
def test_colour_has_no_meaning_on_grey_images(make_images, operation) -> None:
    images = make_images(5, 1).float()
    assert torch.equal(operation(images, FACTORS), images)


def test_posterize_equals_torchvision_at_every_number_of_bits(make_images) -> None:
    images, bits = make_images(9), torch.arange(9)
    expected = [functional.posterize(image, n) for image, n in zip(images, bits.tolist(), strict=True)]
    assert torch.equal(colour.posterize(images, bits), torch.stack(expected))


def test_solarize_equals_torchvision_at_thresholds_on_and_between_grey_levels(make_images) -> None:
    images, thresholds = make_images(5), torch.tensor([0.0, 8.5, 128.0, 254.5, 255.0])
    pairs = zip(images, thresholds.tolist(), strict=True)
    expected = [functional.solarize(image, threshold) for image, threshold in pairs]
    assert torch.equal(colour.solarize(images, thresholds), torch.stack(expected))
