"""Random weights that follow from the images: a whitened first layer, through every command that begins with one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import COLOURS, Ptft, make_images, write_config
from torch import Tensor

from ptft import checkpoint
from ptft.errors import UsageError
from ptft.models import SmallVgg
from ptft.transfer.load import transfer
from ptft.transfer.proof import prove
from ptft.transfer.sources import read_source

VGG: dict[str, Any] = {"name": "small-vgg", "width": 4}
QUICKLY = [
    "--set",
    "train={steps: 6, batch_size: 8, precision: fp32, memory_format: contiguous}",
    "--set",
    "device=cpu",
]


@pytest.fixture
def vgg(tmp_path: Path, photos: Path) -> Path:
    return write_config(tmp_path / "vgg.yaml", model=VGG, augment={"name": "none"})


@pytest.fixture
def source(ptft: Ptft, vgg: Path) -> Path:
    return ptft("pretrain", vgg, "--out", "runs/source").path


def stem_of(path: Path) -> Tensor:
    return checkpoint.read(path).weights()["backbone.stem.weight"]


def test_pretraining_leaves_filters_that_whiten_its_training_images(ptft: Ptft, photos: Path, vgg: Path) -> None:
    """By numpy from the files themselves: every image is a training image here."""
    from PIL import Image

    result = ptft("pretrain", vgg, "--set", "data.validation=0.0", "--set", "data.test=0.0")
    assert "whitening: the first layer's filters follow from 60 training images" in result.err
    found = checkpoint.read(result.path)
    tensors = found.weights()
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(photos.glob("*/*"))]) / 255
    images = (images - found.metadata.mean) / found.metadata.std
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))
    patches = windows.reshape(-1, 12)
    filters = tensors["backbone.stem.weight"].flatten(1).double().numpy()[:12]
    eigenvalues = np.linalg.eigvalsh(np.cov(patches.T, ddof=0))[::-1]
    np.testing.assert_allclose(
        np.cov((patches @ filters.T).T, ddof=0), np.diag(eigenvalues / (eigenvalues + 5e-4)), atol=1e-4
    )


def test_in_pretraining_the_bias_is_trained_and_filters_and_norms_scales_are_not(ptft: Ptft, vgg: Path) -> None:
    few, many = (ptft("pretrain", vgg, "--set", f"train.steps={steps}", "--out", f"runs/{steps}") for steps in (1, 9))
    one, other = checkpoint.read(few.path).weights(), checkpoint.read(many.path).weights()
    assert torch.equal(one["backbone.stem.weight"], other["backbone.stem.weight"])
    assert torch.equal(other["backbone.stage1.0.bn.weight"], torch.ones(4))
    for name in ("backbone.stem.bias", "backbone.stage1.0.bn.bias", "backbone.stage1.0.conv.weight"):
        assert not torch.equal(one[name], other[name])


def test_filters_depend_on_the_images_and_not_on_the_seed(ptft: Ptft, tmp_path: Path, vgg: Path) -> None:
    whole = ["--set", "data.validation=0.0", "--set", "data.test=0.0", "--set", "train.steps=1"]
    first = stem_of(ptft("pretrain", vgg, *whole, "--out", "runs/a").path)
    assert torch.equal(stem_of(ptft("pretrain", vgg, *whole, "--set", "seed=1", "--out", "runs/b").path), first)
    make_images(tmp_path / "others", {"grey": (99, 99, 99), "red": COLOURS["red"]}, 20)
    other = ptft("pretrain", vgg, *whole, "--set", "data.root=others", "--out", "runs/c").path
    assert not torch.allclose(stem_of(other), first, atol=0.1)
    plain = ptft("pretrain", vgg, *whole, "--set", "model.whiten=false", "--out", "runs/d")
    assert "whitening" not in plain.err
    assert stem_of(plain.path).abs().max() < 1


def test_a_resumed_run_ends_as_one_that_was_never_stopped(ptft: Ptft, vgg: Path) -> None:
    settings = ["--set", "train.ema=0.9", "--set", "checkpoint={every: {steps: 4}, keep: 9}"]
    whole = ptft("pretrain", vgg, *settings).path.with_name("last.pt")
    expected = checkpoint.read(whole).tensors
    for name in ("summary.json", "status.json", "checkpoints/last.pt", "checkpoints/best.pt"):
        (whole.parents[1] / name).unlink()
    for path in sorted(whole.parent.iterdir())[1:]:
        path.unlink()
    resumed = ptft("pretrain", vgg, *settings, "--resume")
    assert "resumed at step 4 of 12" in resumed.err
    assert "whitening" not in resumed.err
    found = checkpoint.read(whole).tensors
    assert found.keys() == expected.keys()
    assert [name for name, tensor in found.items() if not torch.equal(tensor, expected[name])] == []
    assert torch.equal(found["ema.backbone.stem.weight"], found["backbone.stem.weight"])


def test_finetuning_takes_the_filters_and_trains_them(ptft: Ptft, source: Path) -> None:
    arguments = ["finetune", "--from", source, "--data", "photos", *QUICKLY, "--set"]
    full = ptft(*arguments, "transfer.recipe=full", "--set", "data.image_size=20", "--out", "runs/full")
    assert "100.0 % of the backbone loaded" in full.err
    assert "proof: on 4 fixed images the backbone gives the features of the source's own network" in full.err
    before, after = stem_of(source), stem_of(full.path)
    assert not torch.equal(before, after)
    assert (before - after).abs().max() < 0.2 * before.abs().max()
    held = ptft(*arguments, "transfer={recipe: surgical, stages: [stage3]}", "--out", "runs/surgical")
    assert torch.equal(stem_of(held.path), before)


@pytest.mark.parametrize("recipe", ["gradual", "auto"])
def test_every_recipe_finetunes_from_it(ptft: Ptft, source: Path, recipe: str) -> None:
    result = ptft("finetune", "--from", source, "--data", "photos", *QUICKLY, "--set", f"transfer.recipe={recipe}")
    assert result.code == 0, result.err


def test_recipe_random_whitens_by_the_images_of_the_target(ptft: Ptft, tmp_path: Path, source: Path) -> None:
    make_images(tmp_path / "others", {"grey": (99, 99, 99), "red": COLOURS["red"]}, 20)
    recipe = ["--set", "transfer.recipe=random", "--set", "optim.lr=1e-9"]
    path = ptft("finetune", "--from", source, "--data", "others", *QUICKLY, *recipe).path
    stem = stem_of(path)
    torch.testing.assert_close(stem[:12], -stem[12:])
    assert not torch.allclose(stem, stem_of(source), atol=0.1)


def test_grey_images_get_the_filters_of_a_coloured_source(ptft: Ptft, source: Path) -> None:
    """Their number stays, so that every later layer fits, and grey images give the features that they gave before."""
    model = "model={name: small-vgg, width: 4, in_channels: 1}"
    result = ptft("finetune", "--from", source, "--data", "photos", *QUICKLY, "--set", model)
    assert result.code == 0, result.err
    assert "input channels 3 to 1, filters summed" in result.err
    assert "proof: on 4 fixed grey images the backbone gives the features of the source's own network" in result.err
    found = checkpoint.read(result.path)
    assert found.weights()["backbone.stem.weight"].shape == (24, 1, 2, 2)
    assert found.metadata.config["model"]["filters"] == 24
    again = ptft("finetune", "--from", result.path, "--data", "photos", *QUICKLY, "--out", "runs/again")
    assert "100.0 % of the backbone loaded" in again.err


def test_coloured_images_get_the_filters_of_a_grey_source() -> None:
    grey, model = SmallVgg(width=4), SmallVgg(width=4, in_channels=3)
    assert model.following(grey, 1).filters == 8
    assert model.following(grey, None) == model
    target = model.following(grey, 1).build(2, 3)
    report = transfer(
        target, grey.build(2, 1).state_dict(), source_classes=(), target_classes=("a", "b"), min_loaded=1.0
    )
    assert [part.name for part in report.adapted()] == ["backbone.stem.weight"]


def test_bare_weights_are_recognised(tmp_path: Path) -> None:
    for model, channels in ((SmallVgg(width=8), 3), (SmallVgg(width=4, filters=24), 1)):
        classifier = model.build(5, channels)
        torch.save(dict(classifier.state_dict()), tmp_path / "w.pt")
        found = read_source(tmp_path / "w.pt")
        assert (found.model, found.in_channels) == (model, channels)
        report = transfer(
            classifier, found.tensors, source_classes=(), target_classes=("a", "b", "c", "d", "e"), min_loaded=1.0
        )
        assert "gives the features" in prove(classifier, model, found, report)


def test_images_below_the_smallest_size_are_refused(ptft: Ptft, vgg: Path) -> None:
    result = ptft("pretrain", vgg, "--set", "data.image_size=8")
    assert (result.code, result.out) == (UsageError.exit_code, "")
    assert "small-vgg needs images of at least 9 pixels" in result.err


def test_other_commands_know_it(ptft: Ptft, tmp_path: Path, source: Path) -> None:
    assert "small-vgg" in ptft("list", "models").out
    assert "stem, stage1, stage2, stage3" in ptft("inspect", source).out
    assert ptft("evaluate", source).code == 0
    scored = ptft("score", source, "--data", "photos", "--json")
    assert scored.code == 0, scored.err
    assert "small-vgg" in scored.out
