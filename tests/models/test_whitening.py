"""The whitening layer against numpy, on images whose channels and neighbours go together as in photographs."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ptft.models.whitening import PatchMoments, Whitening

EPSILON = 5e-4


def smooth_images(channels: int, count: int = 60, side: int = 12) -> Tensor:
    """uint8 (B, C, S, S): blurred noise that the channels share, and a little of their own."""
    generator = torch.Generator().manual_seed(0)
    shared = F.interpolate(torch.randn(count, 1, 4, 4, generator=generator), size=side, mode="bicubic")
    own = torch.randn(count, channels, side, side, generator=generator)
    return (128 + 50 * shared + 8 * own).clamp(0, 255).byte()


def normalised(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images in float64 with mean 0 and variance 1 per channel, and what does it to pixels in [0, 1]."""
    pixels = images.double() / 255
    mean, std = pixels.mean(dim=(0, 2, 3)), pixels.std(dim=(0, 2, 3))
    return (pixels - mean.view(-1, 1, 1)) / std.view(-1, 1, 1), mean, std


def patches_of(images: Tensor) -> np.ndarray:
    """Every 2x2 patch, (N, 4 C) in the order channel, row, column, by a loop."""
    found = images.numpy()
    height, width = found.shape[2:]
    places = [(row, column) for row in range(height - 1) for column in range(width - 1)]
    return np.concatenate(
        [found[:, :, row : row + 2, column : column + 2].reshape(len(found), -1) for row, column in places]
    )


def moments_of(images: Tensor, batch: int = 7) -> PatchMoments:
    moments = PatchMoments(images.shape[1])
    for part in images.split(batch):
        moments.add(part)
    return moments


def whitened(images: Tensor, filters: int) -> Whitening:
    _, mean, std = normalised(images)
    layer = Whitening(images.shape[1], filters)
    layer.whiten(*moments_of(images).normalised(mean, std))
    return layer


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mean_and_covariance_of_patches_are_those_of_numpy(channels: int) -> None:
    images = smooth_images(channels)
    floats, mean, std = normalised(images)
    patches = patches_of(floats)
    ours = moments_of(images).normalised(mean, std)
    np.testing.assert_allclose(ours[0], patches.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(ours[1], np.cov(patches.T, ddof=0), atol=1e-12)


def test_moments_depend_on_nothing_but_the_images() -> None:
    images = smooth_images(3)
    shuffled = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(1))]
    one, other = moments_of(images, batch=7), moments_of(shuffled, batch=60)
    assert torch.equal(one.products, other.products)
    assert torch.equal(one.sums, other.sums)
    assert one.count == other.count == 60 * 11 * 11
    assert not torch.equal(moments_of(images[1:]).products, one.products)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_responses_are_uncorrelated_with_variance_one_and_mean_zero(channels: int) -> None:
    images = smooth_images(channels)
    floats, _, _ = normalised(images)
    layer = whitened(images, 8 * channels)
    responses = layer(floats.float()).double().transpose(0, 1).flatten(1).detach().numpy()
    half = 4 * channels
    eigenvalues = np.linalg.eigvalsh(np.cov(patches_of(floats).T, ddof=0))[::-1]
    np.testing.assert_allclose(
        np.cov(responses[:half], ddof=0), np.diag(eigenvalues / (eigenvalues + EPSILON)), atol=1e-4
    )
    np.testing.assert_allclose(responses.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(responses[half:], -responses[:half], atol=1e-5)
    assert (eigenvalues / (eigenvalues + EPSILON)).min() > 0.9

    random = Whitening(channels, 8 * channels)(floats.float()).transpose(0, 1).flatten(1).detach().numpy()
    assert np.abs(np.corrcoef(random[:half]) - np.eye(half)).max() > 0.5, "the negative control: random filters do not"


def test_patches_of_one_value_give_finite_filters() -> None:
    layer = Whitening(1, 8)
    layer.whiten(*moments_of(torch.full((2, 1, 6, 6), 200, dtype=torch.uint8)).normalised(torch.ones(1), torch.ones(1)))
    assert layer.weight.isfinite().all()
    assert layer.weight.abs().max() <= EPSILON**-0.5 + 1e-3


def test_the_sign_of_a_direction_is_not_left_to_the_library() -> None:
    for column in whitened(smooth_images(3), 24).weight[:12].flatten(1):
        large = column[column.abs() >= column.abs().max() / 2]
        assert large[0] > 0


@pytest.mark.parametrize("filters", [5, 8, 24])
def test_another_number_of_filters_takes_the_largest_first_and_repeats_them(filters: int) -> None:
    usual, layer = whitened(smooth_images(1), 8), whitened(smooth_images(1), filters)
    for place in range(filters):
        assert torch.equal(layer.weight[place], usual.weight[place % 8])


def test_filters_have_no_gradient_and_the_bias_has() -> None:
    layer = Whitening(3, 24)
    layer(torch.randn(2, 3, 9, 9)).square().sum().backward()
    assert layer.weight.grad is None
    assert layer.bias is not None
    assert layer.bias.grad is not None
