"""Training crops from images that are kept larger: what changes, and what does not."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from making import COLOURS, Ptft, make_images, write_config

from ptft import checkpoint


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Photographs of 30 px, given to the model at 16."""
    make_images(tmp_path / "photos", COLOURS, 20, size=30)
    return write_config(tmp_path / "run.yaml", data={"image_size": 16}, augment={"name": "photo"}, train={"steps": 6})


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    assert first
    return all(torch.equal(first[name], second[name]) for name in first)


def test_only_the_crops_of_training_change(ptft: Ptft, config: Path) -> None:
    told, found = [], []
    for size in (None, 16, 24):
        result = ptft("pretrain", config, "--out", f"{size}", "--set", f"data.store_size={size or 'null'}")
        told.append(result.err)
        found.append(checkpoint.read(result.path))
    plain, equal, larger = found
    assert "16x16 pixels, 3 channels; training crops from 24x24." in told[2]
    assert "training crops" not in told[0] + told[1]
    assert same(plain.weights(), equal.weights())
    assert not same(plain.weights(), larger.weights())
    assert same(plain.part("seen"), larger.part("seen"))
    for name in ("image_size", "mean", "std", "classes"):
        assert getattr(plain.metadata, name) == getattr(larger.metadata, name), name
    assert plain.metadata.lineage[-1].data == larger.metadata.lineage[-1].data
    for command in ("evaluate", "leak"):
        assert ptft(command, larger.path).code == 0
    result = ptft(
        "finetune", config, "--from", plain.path, "--set", "data.image_size=null", "--set", "data.store_size=12"
    )
    assert (result.code, result.out) == (2, "")
    assert "data.store_size is 12, less than the image_size of 16" in result.err


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("data.store_size=12", "store_size is 12, less than the image_size of 16 that images are given in. Write"),
        ("augment={name: standard}", "data.store_size: augment.name: standard takes images at image_size"),
        ("data.image_size=null", "data.store_size: nothing says in what size the images are given to the model"),
    ],
)
def test_a_store_that_nothing_is_made_of_is_refused(ptft: Ptft, config: Path, setting: str, sentence: str) -> None:
    result = ptft("pretrain", config, "--set", "data.store_size=24", "--set", setting)
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err
