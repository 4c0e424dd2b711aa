"""Colour jitter draws its factors from the intervals of torchvision's ColorJitter, in a fixed order."""

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional

from ptft.augment import Photo, Standard, Trivial
from ptft.augment.pipelines import Jitter
from ptft.augment.trivial import trivial_augment


def reference(image: Tensor, jitter: Jitter, chances: list[float]) -> Tensor:
    image = image / 255
    kernels = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation)
    for kernel, strength, chance in zip(kernels, strengths, chances[:3], strict=True):
        image = kernel(image, 1 - strength + 2 * strength * chance)
    return functional.adjust_hue(image, jitter.hue * (2 * chances[3] - 1)) * 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("jitter", [Jitter(0.2, 0.3, 0.4, 0.1), Jitter(0, 0.9, 0, 0), Jitter(0, 0, 0, 0.5)])
def test_jitter_equals_torchvision_applied_in_order(make_images, make_draws, jitter, channels: int) -> None:
    images, indices = make_images(8, channels).float(), torch.arange(8)
    chances = make_draws(indices).uniform(4).tolist()
    expected = [reference(image, jitter, chance) for image, chance in zip(images, chances, strict=True)]
    torch.testing.assert_close(jitter(images, make_draws(indices)), torch.stack(expected), rtol=0, atol=0.01)


def test_brightness_factors_are_uniform_within_their_strength(make_draws) -> None:
    grey = torch.full((4000, 1, 1, 1), 100.0)
    result = Jitter(0.5, 0, 0, 0)(grey, make_draws(torch.arange(4000))).flatten() / 100
    assert stats.kstest(result.numpy(), stats.uniform(0.5, 1.0).cdf).pvalue > 1e-3
    assert stats.kstest(result.numpy(), stats.uniform(0.4, 1.2).cdf).pvalue < 1e-3


def test_hue_turns_both_ways_up_to_its_strength(make_draws) -> None:
    red = torch.tensor([255.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(4000, -1, 1, 1)
    result = Jitter(0, 0, 0, 0.1)(red, make_draws(torch.arange(4000))).flatten(1)
    greenish, bluish = result[:, 1], result[:, 2]
    assert (greenish > 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert greenish.max().item() == pytest.approx(0.6 * 255, rel=0.01)
    assert bluish.max().item() == pytest.approx(0.6 * 255, rel=0.01)


PLAIN = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "flip": False}


@pytest.mark.parametrize("config", [Standard(shift=0, flip=False, erasing=0.3), Photo(scale=1, erasing=0.3, **PLAIN)])
def test_as_many_images_lose_a_box_as_asked(make_draws, config: Standard | Photo) -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2000, -1, -1, -1).contiguous()
    with_box, without = (
        each.build(16)(ramp, make_draws(torch.arange(2000))).float()
        for each in (config, config.model_copy(update={"erasing": 0.0}))
    )
    changed = (with_box != without).flatten(1).any(dim=1).float().mean().item()
    assert changed == pytest.approx(0.3, abs=0.04)


def test_crops_are_of_every_area_from_the_least_to_the_whole(make_draws) -> None:
    ramp = torch.arange(32, dtype=torch.uint8).expand(1000, 1, 32, -1).contiguous()
    found = Photo(scale=0.25, ratio=1.0, **PLAIN).build(32)(ramp, make_draws(torch.arange(1000)))
    sides = found[:, 0, 0, -1] - found[:, 0, 0, 0] + 1
    areas = ((sides / 32) ** 2).numpy()
    assert areas.min() == pytest.approx(0.25, abs=0.05)
    assert areas.max() == pytest.approx(1.0, abs=0.05)
    assert areas.mean() == pytest.approx(0.625, abs=0.03)


def ramps(side: int, number: int) -> Tensor:
    """Images whose first channel tells the row and whose second tells the column; the third is 0."""
    ramp = torch.arange(side, dtype=torch.uint8).expand(number, side, side)
    return torch.stack([ramp.mT, ramp, torch.zeros_like(ramp)], dim=1)


def test_crops_are_wider_and_higher_up_to_their_ratio(make_draws) -> None:
    found = Photo(scale=0.25, ratio=2.0, **PLAIN).build(32)(ramps(32, 1000), make_draws(torch.arange(1000)))
    heights, widths = found[:, 0, -1, 0] - found[:, 0, 0, 0] + 1, found[:, 1, 0, -1] - found[:, 1, 0, 0] + 1
    ratios = widths / heights
    assert 0.4 < ratios.min().item() < 0.6
    assert 1.7 < ratios.max().item() < 2.4


def test_crops_come_from_everywhere_in_images_larger_than_the_result(make_draws) -> None:
    found = Photo(scale=0.3, erasing=0.0, **PLAIN).build(32)(ramps(64, 500), make_draws(torch.arange(500)))[:, :2]
    assert found.amin(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0], abs=1)
    assert found.amax(dim=(0, 2, 3)).tolist() == pytest.approx([63, 63], abs=1)
    assert found.mean(dim=(0, 2, 3)).tolist() == pytest.approx([31.5, 31.5], abs=1)


def test_shifts_go_every_way_down_and_across_independently(make_draws) -> None:
    moved = Standard(shift=4, flip=False, erasing=0.0).build(16)(ramps(16, 4000), make_draws(torch.arange(4000)))
    shifts = moved[:, :2, 8, 8].long() - 8
    assert [axis.unique().tolist() for axis in shifts.unbind(1)] == [[*range(-4, 5)]] * 2
    assert abs(stats.pearsonr(*shifts.T.numpy()).statistic) < 0.05


@pytest.mark.parametrize("side", [32, 64])
def test_half_of_the_crops_are_mirrored_whatever_the_side_of_the_images(make_draws, side: int) -> None:
    ramp = torch.arange(side, dtype=torch.uint8).expand(400, 1, side, -1).contiguous()
    found = Photo(scale=0.9, erasing=0.0, **PLAIN | {"flip": True}).build(32)(ramp, make_draws(torch.arange(400)))
    is_mirrored = found[:, 0, 0, 0] > found[:, 0, 0, -1]
    assert is_mirrored.float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_trivial_shifts_and_mirrors_first(make_images, make_draws) -> None:
    images, indices = make_images(64, 3), torch.arange(64)
    trivial = Trivial(shift=4, flip=True).build(images.shape[-1])
    draws = make_draws(indices)
    moved = Standard(shift=4, flip=True, erasing=0.0).build(images.shape[-1])(images, draws)
    assert not torch.equal(moved, images)
    assert torch.equal(trivial(images, make_draws(indices)), trivial_augment(moved, draws))
