"""The order of images is a pure function of seed and step."""

import torch

from ptft.augment import NoAugment, Photo
from ptft.data.batches import Batches, Order
from ptft.data.images import ResidentImages
from ptft.data.task import Examples, Format

LABELS = torch.tensor([0] * 5 + [1] * 30 + [2] * 2)


def rows(order: Order, steps: range) -> list[int]:
    return torch.cat([order.at(step)[1] for step in steps]).tolist()


def test_every_example_comes_once_an_epoch_also_when_batches_straddle_epochs() -> None:
    order = Order(LABELS, batch_size=10, seed=0)
    stream = rows(order, range(37))  # ten epochs of 37
    for epoch in range(10):
        assert sorted(stream[epoch * 37 : (epoch + 1) * 37]) == list(range(37))


def test_epochs_and_seeds_differ_and_steps_can_be_asked_in_any_order() -> None:
    order = Order(LABELS, batch_size=37, seed=0)
    assert rows(order, range(1)) != rows(order, range(1, 2))
    assert rows(order, range(1)) != rows(Order(LABELS, 37, seed=1), range(1))
    late = Order(LABELS, 37, seed=0).at(20)[1]
    assert torch.equal(order.at(20)[1], late)


def test_the_stream_does_not_depend_on_the_batch_size() -> None:
    assert rows(Order(LABELS, 10, seed=3), range(12)) == rows(Order(LABELS, 40, seed=3), range(3))


def test_a_batch_larger_than_the_data_repeats_whole_epochs() -> None:
    epochs, chosen = Order(LABELS, batch_size=80, seed=0).at(0)
    assert epochs.tolist() == [0] * 37 + [1] * 37 + [2] * 6
    assert sorted(chosen[:37].tolist()) == list(range(37))


def test_balanced_sampling_shows_every_class_equally_often() -> None:
    order = Order(LABELS, batch_size=37, seed=0, balanced=True)
    for step in range(5):
        counts = torch.bincount(LABELS[order.at(step)[1]])
        assert counts.max() - counts.min() <= 1
    seen = set(rows(order, range(5)))
    assert {5, 20, 34} <= seen  # rare and frequent classes alike
    uniform = torch.bincount(LABELS[Order(LABELS, 37, seed=0).at(0)[1]])
    assert uniform.tolist() == [5, 30, 2]


def make_batches(augmentation: NoAugment | Photo, batch_size: int) -> Batches:
    pixels = torch.randint(0, 256, (37, 3, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    examples = Examples(ResidentImages(pixels), LABELS, [str(index) for index in range(37)])
    format_ = Format(12, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
    return Batches(examples, format_, Order(LABELS, batch_size, seed=0), augmentation.build(12), torch.device("cpu"))


def test_images_are_normalised_by_channel() -> None:
    batch = make_batches(NoAugment(name="none"), 8).at(0)
    pixels = torch.randint(0, 256, (37, 3, 12, 12), generator=torch.Generator().manual_seed(0)).double()
    expected = pixels[batch.indices] / 255
    for channel, (mean, std) in enumerate(zip((0.5, 0.4, 0.3), (0.2, 0.3, 0.25), strict=True)):
        torch.testing.assert_close(batch.images[:, channel].double(), (expected[:, channel] - mean) / std)
    assert torch.equal(batch.labels, LABELS[batch.indices])


def test_the_augmentation_of_an_image_does_not_depend_on_the_batch_it_is_in() -> None:
    small = torch.cat([make_batches(Photo(name="photo"), 5).at(step).images for step in range(8)])
    large = make_batches(Photo(name="photo"), 40).at(0).images
    assert torch.equal(small, large)
