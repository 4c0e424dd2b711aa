"""Progressive resizing: which size at which step, of whole batches, for any number of ranks."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from ptft.augment import NoAugment, Standard
from ptft.data.batches import Batches, Order
from ptft.data.images import ResidentImages
from ptft.data.resize import Resize
from ptft.data.task import Examples, Format
from ptft.errors import UsageError

FORMAT = Format(32, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
NUM_STEPS = 20


def sides(resize: Resize, image_size: int = 32, num_steps: int = NUM_STEPS) -> list[int]:
    sizes = resize.build(image_size, num_steps, smallest=8)
    return [sizes.at(step) for step in range(num_steps)]


def test_sizes_are_multiples_of_4_each_as_long_as_the_others_and_the_full_one_ends_the_run() -> None:
    assert sides(Resize(initial_scale=0.5, full_from=0.8)) == [16] * 4 + [20] * 4 + [24] * 4 + [28] * 4 + [32] * 4
    assert sides(Resize(initial_scale=0.5, full_from=0.5, num_sizes=1)) == [16] * 10 + [32] * 10
    assert sides(Resize(initial_scale=0.6, full_from=0.5, num_sizes=2), 224) == [136] * 5 + [180] * 5 + [224] * 10
    assert sides(Resize(initial_scale=0.5, full_from=1.0), 30, 8) == [16] * 2 + [20] * 2 + [24] * 2 + [28] * 2


def test_without_an_initial_scale_every_step_has_the_full_size() -> None:
    assert sides(Resize()) == [32] * NUM_STEPS
    assert Resize().build(32, 10, smallest=75).phases == (range(10),)


@pytest.mark.parametrize("num_steps", [1, 3, 20, 1001])
def test_the_phases_are_the_steps_of_each_size(num_steps: int) -> None:
    sizes = Resize(initial_scale=0.5).build(32, num_steps, smallest=8)
    assert [step for phase in sizes.phases for step in phase] == list(range(num_steps))
    assert all(sizes.at(step) == side for side, phase in zip(sizes.sides, sizes.phases, strict=True) for step in phase)
    assert sizes.at(num_steps + 5) == 32  # batches are made ahead


@pytest.mark.parametrize(
    ("scale", "size", "smallest", "message"),
    [
        (0.2, 32, 15, "begin with images of 8 pixels, and the model needs at least 15. Write at least 0.5."),
        (0.5, 30, 29, "begin with images of 16 pixels, and the model needs at least 29. Leave train.resize out."),
        (0.95, 32, 8, "0.95 of 32 pixels is the full size, in multiples of 4. Write 1 for no resizing, or less"),
    ],
)
def test_a_size_that_cannot_be_is_refused_with_what_to_write(
    scale: float, size: int, smallest: int, message: str
) -> None:
    with pytest.raises(UsageError, match=r"^train.resize.initial_scale: .*" + message):
        Resize(initial_scale=scale).build(size, 100, smallest)


def test_what_the_advice_names_is_accepted() -> None:
    for size in range(32, 225):
        assert Resize(initial_scale=-(-100 * 16 // size) / 100).build(size, 100, smallest=15).sides[0] >= 16


def make_batches(
    resize: Resize, augment: NoAugment | Standard, batch_size: int = 8, own: range | None = None
) -> Batches:
    pixels = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    labels = torch.arange(40) % 3
    examples = Examples(ResidentImages(pixels), labels, [str(index) for index in range(40)])
    order, sizes = Order(labels, batch_size, seed=0), resize.build(32, NUM_STEPS, smallest=8)
    return Batches(examples, FORMAT, order, augment.build(32), torch.device("cpu"), own, sizes=sizes)


HALF = Resize(initial_scale=0.5, full_from=0.5, num_sizes=1)


def test_small_images_are_the_large_ones_antialiased_after_augmentation() -> None:
    """At half the side every pixel is a weighted mean of its surroundings: (1 3 3 1) / 8 each way."""
    small, large = (make_batches(resize, Standard()).at(3).images for resize in (HALF, Resize()))
    weights = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = (weights[:, None] * weights)[None, None].expand(3, 1, 4, 4)
    expected = torch.nn.functional.conv2d(large, kernel, stride=2, padding=1, groups=3)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(small[inner], expected[inner], rtol=0, atol=1e-4)
    assert (small - avg_pool2d(large, 2)).abs().max() > 0.1


def test_sizes_follow_the_step_and_full_ones_are_untouched() -> None:
    batches, plain = make_batches(HALF, Standard()), make_batches(Resize(), Standard())
    assert [batches.at(step).images.shape[-1] for step in (0, 9, 10, 19, 2)] == [16, 16, 32, 32, 16]
    assert torch.equal(batches.at(10).images, plain.at(10).images)


def test_an_image_does_not_depend_on_the_batch_or_the_rank_it_is_in() -> None:
    whole = make_batches(HALF, Standard(), 20)
    for step in (0, 5):
        images = whole.at(step).images
        shares = [make_batches(HALF, Standard(), 20, own).at(step).images for own in (range(7), range(7, 20))]
        assert torch.equal(torch.cat(shares), images)


def test_a_first_size_that_the_model_just_takes_is_taken() -> None:
    assert Resize(initial_scale=0.5).build(32, 100, smallest=16).sides == (16, 20, 24, 28, 32)
