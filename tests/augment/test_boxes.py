"""Random boxes follow torchvision's distribution; erasing touches its box and nothing else."""

import math

import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from ptft.augment.boxes import erase, random_boxes, random_erasing

ALL = torch.ones(3, dtype=torch.bool)


def torchvision_boxes(number: int, area: tuple[float, float], ratio: float) -> torch.Tensor:
    image = torch.empty(3, 28, 28)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.tensor(
            [RandomResizedCrop.get_params(image, list(area), [1 / ratio, ratio]) for _ in range(number)]
        )


def same_distribution(first: torch.Tensor, second: torch.Tensor) -> bool:
    return bool(stats.ks_2samp(first.numpy(), second.numpy()).pvalue > 1e-3)


@pytest.mark.parametrize(("area", "ratio"), [((0.35, 1.0), 4 / 3), ((0.02, 0.4), 10 / 3)])
def test_boxes_are_distributed_as_in_torchvision(make_draws, area: tuple[float, float], ratio: float) -> None:
    ours, _ = random_boxes(make_draws(torch.arange(20_000)), 28, area, ratio)
    theirs = torchvision_boxes(2000, area, ratio)
    for column in range(4):
        assert same_distribution(ours[:, column], theirs[:, column])
    assert same_distribution(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])


def test_the_comparison_notices_another_least_area(make_draws) -> None:
    ours, _ = random_boxes(make_draws(torch.arange(20_000)), 28, (0.25, 1.0), 4 / 3)
    assert not same_distribution(ours[:, 2], torchvision_boxes(2000, (0.35, 1.0), 4 / 3)[:, 2])


def test_boxes_lie_inside_the_image_and_have_the_area_and_ratio_asked_for(make_draws) -> None:
    boxes, fits = random_boxes(make_draws(torch.arange(5000)), 224, (0.1, 0.5), 2.0)
    top, left, height, width = boxes.double().unbind(1)
    assert fits.all()
    assert boxes.min() >= 0
    assert (top + height).max() <= 224
    assert (left + width).max() <= 224
    area, ratio = height * width / 224**2, width / height
    assert (area.min().item(), area.max().item()) == pytest.approx((0.1, 0.5), abs=0.01)
    assert (ratio.min().item(), ratio.max().item()) == pytest.approx((0.5, 2.0), abs=0.05)
    assert area.mean().item() == pytest.approx(0.3, abs=0.01)
    assert ratio.log().mean().item() == pytest.approx(0.0, abs=0.05 * math.log(2))


def test_boxes_lie_anywhere_down_and_across_independently(make_draws) -> None:
    boxes, _ = random_boxes(make_draws(torch.arange(4000)), 64, (0.25, 0.25), 1.0)
    assert [corner.unique().tolist() for corner in boxes[:, :2].unbind(1)] == [[*range(33)]] * 2
    assert abs(stats.pearsonr(*boxes[:, :2].T.numpy()).statistic) < 0.05


def test_full_area_and_ratio_one_is_the_whole_image(make_draws) -> None:
    boxes, fits = random_boxes(make_draws(torch.arange(100)), 65, (1.0, 1.0), 1.0)
    assert fits.all()
    assert boxes.unique(dim=0).tolist() == [[0, 0, 65, 65]]


def test_where_no_candidate_fits_the_box_is_the_whole_image_and_nothing_is_erased(
    make_images, make_draws, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes, fits = random_boxes(make_draws(torch.arange(100)), 28, (4.0, 4.0), 1.0)
    assert not fits.any()
    assert boxes.unique(dim=0).tolist() == [[0, 0, 28, 28]]
    monkeypatch.setattr("ptft.augment.boxes._ERASED_AREA", (4.0, 4.0))
    images = make_images(100)
    assert torch.equal(random_erasing(images, make_draws(torch.arange(100)), 1.0), images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_erase_paints_each_box_in_the_mean_colour_and_leaves_the_rest(make_images, dtype) -> None:
    images = make_images(3).to(dtype)
    boxes = torch.tensor([[0, 0, 5, 7], [10, 20, 18, 8], [3, 3, 1, 1]])
    expected = images.clone()
    for image, (top, left, height, width) in zip(expected, boxes.tolist(), strict=True):
        mean = image.double().mean(dim=(1, 2), keepdim=True)
        image[:, top : top + height, left : left + width] = (mean.round() if dtype == torch.uint8 else mean).to(dtype)
    assert torch.equal(erase(images, boxes, ALL), expected)
    assert torch.equal(erase(images, boxes, ~ALL), images)


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_erasing_strikes_with_its_probability_and_its_mean_area(make_draws, p: float) -> None:
    images = torch.zeros(4000, 1, 28, 28)
    images[:, :, ::2] = 200
    erased = random_erasing(images, make_draws(torch.arange(4000)), p) == 100
    struck = erased.any(dim=3).any(dim=2)[:, 0]
    assert struck.float().mean().item() == pytest.approx(p, abs=0.03 if 0 < p < 1 else 0)
    if p:
        assert erased[struck].float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_erased_boxes_are_2_to_40_percent_large_and_up_to_ten_thirds_as_long_as_wide(make_draws) -> None:
    images = torch.zeros(1000, 1, 96, 96)
    images[..., ::2] = 200
    erased = random_erasing(images, make_draws(torch.arange(1000)), 1.0)[:, 0] == 100
    heights, widths = erased.any(dim=2).sum(dim=1), erased.any(dim=1).sum(dim=1)
    areas = heights * widths / 96**2
    assert (areas.min().item(), areas.max().item()) == pytest.approx((0.02, 0.4), abs=0.003)
    ratios = (heights / widths)[areas > 0.1]
    assert ratios.max().item() == pytest.approx(10 / 3, rel=0.03)
    assert ratios.min().item() == pytest.approx(3 / 10, rel=0.03)
