"""The order of images is a pure function of seed and step."""

import pytest
import torch

from ptft.augment import NoAugment, Photo
from ptft.data.ahead import Ahead, ahead_where_it_wins
from ptft.data.batches import Batch, Batches, Order
from ptft.data.images import ChosenImages, DecodedImages, Images, ResidentImages
from ptft.data.near import fits, moved, near
from ptft.data.stored import StoredImages
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
    rounds = [tuple(LABELS[order.at(0)[1]][start : start + 3].tolist()) for start in range(0, 36, 3)]
    assert all(sorted(each) == [0, 1, 2] for each in rounds)
    assert len(set(rounds)) > 1, "each round has an order of classes of its own"
    uniform = torch.bincount(LABELS[Order(LABELS, 37, seed=0).at(0)[1]])
    assert uniform.tolist() == [5, 30, 2]


def make_pixels(size: int = 12, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (37, channels, size, size), generator=generator).to(torch.uint8)


def make_batches(
    augmentation: NoAugment | Photo,
    batch_size: int,
    larger: Images | None = None,
    seed: int = 0,
    balanced: bool = False,
) -> Batches:
    examples = Examples(ResidentImages(make_pixels()), LABELS, [str(index) for index in range(37)], larger=larger)
    format_ = Format(12, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
    order = Order(LABELS, batch_size, seed, balanced)
    return Batches(examples, format_, order, augmentation.build(12), torch.device("cpu"))


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


def test_an_image_that_balanced_sampling_repeats_is_augmented_anew_each_time() -> None:
    batches = make_batches(Photo(), 37, balanced=True)
    found = [batches.at(step) for step in range(3)]
    indices, images = torch.cat([batch.indices for batch in found]), torch.cat([batch.images for batch in found])
    for row in range(37):
        views = images[indices == row].flatten(1)
        assert len(views.unique(dim=0)) == len(views)
    assert (indices == 35).sum() > 12  # of 2 images in a class, in 3 epochs


def test_the_augmentation_of_an_image_depends_on_the_seed_and_the_epoch() -> None:
    def images(seed: int, epoch: int) -> torch.Tensor:
        batch = make_batches(Photo(name="photo"), 37, seed=seed).at(epoch)
        return batch.images[batch.indices.argsort()]

    first = images(0, 0)
    assert torch.equal(first, images(0, 0))
    for other in (images(1, 0), images(0, 1)):
        assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("counts", [(110, 100), (220, 100), (300, 60)])
def test_balanced_sampling_takes_a_rare_image_in_even_and_odd_epochs_alike(counts: tuple[int, int]) -> None:
    """By turns, as flip: alternating goes by it."""
    labels = torch.arange(2).repeat_interleave(torch.tensor(counts))
    epochs, rows = Order(labels, len(labels), seed=0, balanced=True).at(0)
    for number in range(1, 20):
        more, drawn = Order(labels, len(labels), seed=0, balanced=True).at(number)
        epochs, rows = torch.cat([epochs, more]), torch.cat([rows, drawn])
    rare = rows >= counts[0]
    odd = torch.bincount(rows[rare], weights=(epochs[rare] % 2).double())[counts[0] :]
    share = odd / torch.bincount(rows[rare])[counts[0] :]
    assert ((share > 0.4) & (share < 0.6)).all()


@pytest.mark.parametrize(
    ("augmentation", "larger"),
    [(NoAugment(), False), (Photo(hue=0.1, erasing=0.5), False), (Photo(hue=0.1, erasing=0.5), True)],
)
def test_a_batch_made_with_others_is_the_one_made_by_itself(augmentation: NoAugment | Photo, larger: bool) -> None:
    images = ResidentImages(make_pixels(20)) if larger else None
    together = make_batches(augmentation, 10, images)
    for count, step in enumerate((*range(40), 3, 17)):  # past what is made at once, and back
        alone, made = make_batches(augmentation, 10, images), together.at(step)
        own = alone.at(step)
        assert alone.num_made == 1
        assert torch.equal(own.images, made.images)
        assert torch.equal(own.indices, made.indices)
        assert torch.equal(own.labels, made.labels)
        assert together.num_made >= count + 1
    assert together.num_made > 42  # some ahead of their time
    assert not torch.equal(together.at(3).images, together.at(4).images)


def test_crops_of_larger_images_have_the_size_of_the_others_and_do_not_depend_on_the_batch() -> None:
    larger = ResidentImages(make_pixels(18))
    small = torch.cat([make_batches(Photo(), 5, larger).at(step).images for step in range(8)])
    large = make_batches(Photo(), 40, larger).at(0).images
    assert large.shape == (40, 3, 12, 12)
    assert torch.equal(small, large)
    assert not torch.equal(large, make_batches(Photo(), 40).at(0).images)


def test_the_next_batch_is_made_meanwhile_where_the_cores_that_compute_are_left_alone() -> None:
    cpu, gpu, batches = torch.device("cpu"), torch.device("cuda"), make_batches(NoAugment(), 8)
    resident, decoded = ResidentImages(make_pixels()), DecodedImages([], (3, 12, 12), 1000)
    some = ChosenImages(ChosenImages(decoded, torch.tensor([0])), torch.tensor([0]))
    assert ahead_where_it_wins(batches, resident, cpu) is batches
    assert ahead_where_it_wins(batches, ChosenImages(resident, torch.tensor([0])), cpu) is batches
    for images, device in ((resident, gpu), (decoded, cpu), (some, cpu)):
        assert isinstance(ahead_where_it_wins(batches, images, device), Ahead)


def test_batches_of_resident_images_made_ahead_are_the_same() -> None:
    ahead, plain = Ahead(make_batches(Photo(), 8)), make_batches(Photo(), 8)
    for step in (0, 1, 2, 7, 8, 8, 3):
        assert torch.equal(ahead.at(step).images, plain.at(step).images)


@pytest.mark.parametrize(
    ("error", "is_met_again"), [(torch.OutOfMemoryError("CUDA out of memory."), True), (RuntimeError("assert"), False)]
)
def test_a_batch_for_which_memory_ran_out_beside_a_step_is_made_once_more(
    monkeypatch: pytest.MonkeyPatch, error: Exception, is_met_again: bool
) -> None:
    batches, plain, failed = make_batches(NoAugment(), 8), make_batches(NoAugment(), 8), list[int]()

    def at(step: int) -> Batch:
        if step == 1 and not failed:
            failed.append(step)
            raise error
        return plain.at(step)

    monkeypatch.setattr(batches, "at", at)
    ahead = Ahead(batches)
    ahead.at(0)
    if is_met_again:
        assert torch.equal(ahead.at(1).images, plain.at(1).images)
        assert torch.equal(ahead.at(2).images, plain.at(2).images)
    else:
        with pytest.raises(RuntimeError, match="assert"):
            ahead.at(1)
    assert failed == [1]


def test_moved_images_are_those_that_were_moved_whatever_held_them(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [make_pixels(), make_pixels(channels=1)]
    numbers, rows = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([3, 4, 36, 0, 9])
    stored = StoredImages(files, numbers, rows, 3)
    expected = stored.take(torch.arange(5))
    monkeypatch.setattr("ptft.data.near._PORTION_BYTES", 2 * expected[0].numel())
    found = moved(stored, torch.device("cpu"))
    assert torch.equal(found.pixels, expected)
    assert torch.equal(found.take(torch.tensor([4, 1])), stored.take(torch.tensor([4, 1])))


def test_images_stay_where_they_are_for_a_cpu_and_where_each_batch_decodes_them() -> None:
    resident, decoded = ResidentImages(make_pixels()), DecodedImages([], (3, 12, 12), 1000)
    assert near(resident, torch.device("cpu")) is resident
    assert near(decoded, torch.device("cuda")) is decoded


def test_images_may_take_30_percent_of_the_free_memory_of_a_gpu() -> None:
    resident = ResidentImages(make_pixels())
    assert fits(resident, round(resident.pixels.numel() / 0.29))
    assert not fits(resident, round(resident.pixels.numel() / 0.31))
