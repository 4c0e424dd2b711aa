"""What every augmentation in the union promises, whatever it does."""

import subprocess
import sys
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ptft.augment import Augment, Augmentation, NoAugment, Photo, Standard, Trivial
from ptft.augment.draws import Draws
from ptft.config.base import Config
from ptft.errors import UsageError

COMPONENTS = get_args(get_args(Augment)[0])
CONFIGS = [
    *(component() for component in COMPONENTS),
    Standard(padding="zeros", shift=3, erasing=0.5),
    Standard(flip=False, shift=0),
    Standard(flip="alternating"),
    Photo(hue=0.3, erasing=0.5),
    Photo(flip="alternating"),
    Trivial(padding="zeros", flip=False),
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=str)
BATCH = 48


def augment_alone(augmentation: Augmentation, images: Tensor, make_draws) -> Tensor:
    parts = zip(images.split(1), torch.arange(len(images)).split(1), strict=True)
    return torch.cat([augmentation(image, make_draws(index)) for image, index in parts])


def assert_same_alone_and_in_a_batch(augmentation: Augmentation, images: Tensor, make_draws) -> None:
    together = augmentation(images, make_draws(torch.arange(len(images))))
    assert torch.equal(augment_alone(augmentation, images, make_draws), together)


@every_config
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 65])
def test_result_has_the_shape_and_range_of_the_input(
    config: Config, channels: int, size: int, make_images, make_draws
) -> None:
    images = make_images(BATCH, channels, size)
    before = images.clone()
    result = config.build(size)(images, make_draws(torch.arange(BATCH)))
    assert result.shape == images.shape
    assert result.dtype in (torch.uint8, torch.float32)
    assert result.min() >= 0
    assert result.max() <= 255
    assert torch.equal(images, before)


@pytest.mark.parametrize("config", [*CONFIGS, Photo(brightness=0, contrast=0, saturation=0)], ids=str)
@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_images_stay_in_range(config: Config, level: int, make_draws) -> None:
    images = torch.full((256, 3, 65, 65), level, dtype=torch.uint8)
    result = config.build(65)(images, make_draws(torch.arange(256)))
    assert result.min() >= 0
    assert result.max() <= 255


@every_config
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_is_the_same_bit_for_bit_alone_and_in_a_batch(
    config: Config, channels: int, make_images, make_draws
) -> None:
    assert_same_alone_and_in_a_batch(config.build(28), make_images(BATCH, channels), make_draws)


@pytest.mark.parametrize("larger", [29, 48, 90])
def test_crops_of_larger_images_have_the_size_asked_for_and_are_the_same_in_any_batch(
    larger: int, make_images, make_draws
) -> None:
    images, augmentation = make_images(BATCH, 3, larger), Photo(erasing=0.5).build(28)
    assert augmentation(images, make_draws(torch.arange(BATCH))).shape == (BATCH, 3, 28, 28)
    assert_same_alone_and_in_a_batch(augmentation, images, make_draws)


@every_config
def test_the_same_draws_give_the_same_images_in_any_order_of_the_batch(config: Config, make_images, make_draws) -> None:
    images, indices, augmentation = make_images(BATCH), torch.arange(BATCH), config.build(28)
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(1))
    first = augmentation(images, make_draws(indices))
    assert torch.equal(first, augmentation(images, make_draws(indices)))
    assert torch.equal(first[order], augmentation(images[order], make_draws(indices[order])))


@every_config
def test_another_epoch_gives_other_images(config: Config, make_images, make_draws) -> None:
    images, indices, augmentation = make_images(BATCH), torch.arange(BATCH), config.build(28)
    first, second = (augmentation(images, make_draws(indices, epoch)) for epoch in (0, 1))
    still = config.name == "none" or config == Standard(flip=False, shift=0)
    assert torch.equal(first, second) == still


def test_the_check_notices_an_augmentation_that_looks_at_the_batch(make_images, make_draws) -> None:
    def by_position(images: Tensor, draws: Draws) -> Tensor:
        return images + torch.arange(len(images), dtype=torch.uint8)[:, None, None, None]

    with pytest.raises(AssertionError):
        assert_same_alone_and_in_a_batch(by_position, make_images(BATCH), make_draws)


@pytest.mark.parametrize(
    ("config", "tolerance"),
    [
        (NoAugment(), 0.0),
        (Standard(flip=False, shift=0), 0.0),
        (Photo(scale=1, ratio=1, flip=False, brightness=0, contrast=0, saturation=0), 0.01),
    ],
    ids=str,
)
def test_zero_strength_changes_nothing(config: Config, tolerance: float, make_images, make_draws) -> None:
    images = make_images(BATCH)
    result = config.build(28)(images, make_draws(torch.arange(BATCH)))
    torch.testing.assert_close(result.float(), images.float(), rtol=0, atol=tolerance)


def test_half_of_the_images_are_mirrored_and_shifts_cover_their_range(make_draws) -> None:
    ramp = torch.arange(16, dtype=torch.uint8).expand(4000, 1, 16, 16) * 10
    result = Standard(shift=2).build(16)(ramp, make_draws(torch.arange(4000)))
    rising = result[:, 0, 8, 9] > result[:, 0, 8, 6]
    assert rising.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert result[rising][:, 0, 0, 8].unique().tolist() == [60, 70, 80, 90, 100]


STILL: dict[str, Any] = {
    "standard": {"shift": 0},
    "trivial": {"shift": 0},
    "photo": {"scale": 1, "ratio": 1, "brightness": 0, "contrast": 0, "saturation": 0},
}


def are_mirrored(flip: object, name: str, seed: int, epoch: int) -> Tensor:
    """Bool (4000,), by the slope of a ramp; of the images that another operation changed too, only the mirroring."""
    config = TypeAdapter(Augment).validate_python({"name": name, "flip": flip} | STILL[name])
    ramp = torch.arange(16, dtype=torch.uint8).expand(4000, 1, 16, 16) * 10
    draws = Draws(seed, torch.full((4000,), epoch), torch.arange(4000))
    augmentation = config.build(16)
    moved = augmentation.move(ramp, draws) if name == "trivial" else augmentation(ramp, draws)
    return moved[:, 0, 8, 9] < moved[:, 0, 8, 6]


@pytest.mark.parametrize("name", ["standard", "photo", "trivial"])
def test_alternating_flip_shows_each_image_once_each_way_in_any_two_epochs(name: str) -> None:
    """About half are mirrored first, others for another seed; flipping at random does not alternate."""
    epochs = [are_mirrored("alternating", name, 0, epoch) for epoch in range(5)]
    assert all(torch.equal(first, ~second) for first, second in pairwise(epochs))
    assert epochs[0].float().mean().item() == pytest.approx(0.5, abs=0.03)
    other = are_mirrored("alternating", name, 1, 0)
    assert (epochs[0] == other).float().mean().item() == pytest.approx(0.5, abs=0.03)
    first, second = (are_mirrored(True, name, 0, epoch) for epoch in (0, 1))
    assert (first == ~second).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert not are_mirrored(False, name, 0, 0).any()


def test_alternating_flip_leaves_the_other_draws_as_they_are(make_draws) -> None:
    ramp = torch.arange(16, dtype=torch.uint8)[:, None].expand(4000, 1, 16, 16)
    one, other = (Standard(flip=flip).build(16)(ramp, make_draws(torch.arange(4000))) for flip in (True, "alternating"))
    assert torch.equal(one, other)  # nothing to see of a flip in rows, all of a shift


@pytest.mark.parametrize(("size", "shift"), [(28, 4), (32, 4), (64, 8), (224, 28)])
def test_the_default_shift_is_an_eighth_of_the_side(size: int, shift: int) -> None:
    assert Standard().build(size) == Standard(shift=shift).build(size)


@pytest.mark.parametrize("component", [Standard, Trivial])
def test_a_shift_that_leaves_no_pixel_is_refused_with_what_to_write(component) -> None:
    with pytest.raises(UsageError, match=r"augment.shift: 28 pixels .* at most 27, or leave it out for 4"):
        component(shift=28).build(28)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "standrad"},
        {"name": "standard", "shift": -1},
        {"name": "standard", "flip": "always"},
        {"name": "standard", "erasing": 1.5},
        {"name": "standard", "padding": "wrap"},
        {"name": "photo", "scale": 0.0},
        {"name": "photo", "ratio": 0.5},
        {"name": "photo", "hue": 0.6},
        {"name": "trivial", "flips": True},
    ],
)
def test_a_value_out_of_range_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Augment).validate_python(fields)


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_and_every_field_is_documented(component: type[Config]) -> None:
    assert all(component.summaries().values())
    assert all(field.description for field in component.model_fields.values())


def test_configs_are_checked_without_torch_and_standard_and_photo_run_without_torchvision() -> None:
    script = """
import sys
from pydantic import TypeAdapter
from ptft.augment import Augment, Photo
standard = TypeAdapter(Augment).validate_python({"name": "standard", "erasing": 0.5})
assert "torch" not in sys.modules
import torch
from ptft.augment.draws import Draws
for config in (standard, Photo(hue=0.1)):
    images, zeros = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    config.build(8)(images, Draws(0, zeros, zeros))
assert "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
