"""Adapted tensors keep what the source learnt: responses agree where they can, magnitudes elsewhere."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ptft.models import SmallCnn, TorchvisionCnn
from ptft.transfer.adapt import adapt, adapt_channels, agreeing_channels, resize_kernel
from ptft.transfer.load import transfer


def weight(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 9))
def test_channels_agree_on_grey_or_repeated_images(source: int, target: int) -> None:
    before = weight(5, source, 3, 3)
    after, words = adapt_channels(before, target)
    assert after.shape == (5, target, 3, 3)
    assert f"input channels {source} to {target}" in words
    shared = source if target % source == 0 else 1
    images = weight(2, shared, 8, 8)
    theirs, ours = (images.repeat(1, count // shared, 1, 1) for count in (source, target))
    if agreeing_channels(source, target):
        torch.testing.assert_close(F.conv2d(ours, after), F.conv2d(theirs, before), atol=1e-5, rtol=1e-4)


def test_four_channels_do_not_agree_and_keep_the_magnitude() -> None:
    before = weight(64, 3, 7, 7)
    after, _ = adapt_channels(before, 4)
    torch.testing.assert_close(after, before[:, [0, 1, 2, 0]] * 3 / 4)  # red stays red
    images = weight(2, 4, 16, 16)
    assert not agreeing_channels(3, 4)
    ratio = F.conv2d(images, after).std() / F.conv2d(images[:, :3], before).std()
    assert 0.7 < ratio < 1.0  # sqrt(4) * 3/4 / sqrt(3) = 0.87 for independent channels


@pytest.mark.parametrize(("old", "new"), [(7, 3), (7, 5), (3, 7), (4, 2), (11, 3)])
def test_a_resized_kernel_responds_to_resized_patches_as_the_old_one_to_the_patches(old: int, new: int) -> None:
    """Smooth patches lose little when they are shrunk; a crop of the centre is the negative control."""
    smooth = F.interpolate(weight(512, 3, 3, 3), size=(old, old), mode="bilinear", align_corners=True)
    before = F.interpolate(weight(16, 3, 3, 3), size=(old, old), mode="bilinear", align_corners=True)
    small = F.interpolate(smooth, size=(new, new), mode="bilinear", antialias=True)
    after = resize_kernel(before, (new, new))
    expected = smooth.flatten(1) @ before.flatten(1).T
    got = small.flatten(1) @ after.flatten(1).T
    assert torch.corrcoef(torch.stack([expected.flatten(), got.flatten()]))[0, 1] > 0.8
    assert 0.6 < got.std() / expected.std() < 1.2
    if new < old:
        start = (old - new) // 2
        cropped = before[:, :, start : start + new, start : start + new]
        lost = small.flatten(1) @ cropped.flatten(1).T
        assert lost.std() < 0.6 * expected.std()


def test_a_kernel_that_is_not_square_responds_alike_where_nothing_of_the_patch_is_lost() -> None:
    before, patches = weight(4, 3, 3, 2), weight(8, 3, 3, 2)
    adapted = adapt(before, weight(4, 3, 5, 4), is_stem=True)
    assert adapted is not None
    after, words = adapted
    larger = F.interpolate(patches, size=(5, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(F.conv2d(larger, after), F.conv2d(patches, before), atol=1e-4, rtol=1e-4)
    assert words == "kernel 3×2 to 5×4 by pseudo-inverse resizing"


def test_a_kernel_of_the_same_size_stays() -> None:
    before = weight(4, 3, 5, 5)
    torch.testing.assert_close(resize_kernel(before, (5, 5)), before, atol=1e-6, rtol=1e-5)


def test_only_the_stem_changes_its_kernel_and_others_only_their_writing() -> None:
    assert adapt(weight(4, 3, 7, 7), weight(4, 3, 3, 3), is_stem=False) is None
    assert adapt(weight(5, 3, 3, 3), weight(4, 3, 3, 3), is_stem=True) is None
    assert adapt(weight(4, 6), weight(4, 3, 2, 1), is_stem=False) is not None
    assert adapt(weight(4), weight(4, 1, 1), is_stem=False) is not None
    assert adapt(weight(6, 4), weight(4, 6), is_stem=False) is None
    assert adapt(weight(4, 6), weight(24), is_stem=False) is None


def test_the_report_names_what_was_adapted_and_counts_it_as_loaded() -> None:
    source = TorchvisionCnn(name="resnet18").build(3, 3).state_dict()
    target = TorchvisionCnn(name="resnet18", small_stem=True).build(3, 1)
    report = transfer(target, source, source_classes=(), target_classes=("a", "b", "c"), min_loaded=1.0)
    (adapted,) = report.adapted()
    assert adapted.name == "backbone.conv1.weight"
    assert adapted.reason == ("input channels 3 to 1, filters summed; kernel 7×7 to 3×3 by pseudo-inverse resizing")
    assert report.loaded_fraction == 1


def test_values_that_are_not_finite_are_refused() -> None:
    source = SmallCnn(name="small-cnn", width=4).build(2, 3).state_dict()
    source["backbone.stage3.conv.weight"][0, 0, 0, 0] = float("nan")
    target = SmallCnn(name="small-cnn", width=4).build(2, 3)
    report = transfer(target, source, source_classes=(), target_classes=("a", "b"), min_loaded=0.0)
    (fresh,) = [part for part in report.tensors if part.outcome == "fresh" and part.name.startswith("backbone")]
    assert fresh.name == "backbone.stage3.conv.weight"
    assert "not finite" in fresh.reason
