"""Weights by name: torchvision's through its cache, timm's through timm."""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from making import COLOURS, Ptft, make_images

from ptft import checkpoint
from ptft.errors import CheckpointError, UsageError
from ptft.transfer.load import transfer
from ptft.transfer.proof import prove
from ptft.transfer.sources import read_source

WEIGHTS = torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
NAME = "torchvision:ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's empty cache, on a machine that reaches no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return tmp_path / "torch" / "hub" / "checkpoints"


def plant(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights as torchvision would have published them, with their SHA-256 in the name, in the cache."""
    cache.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict(), cache / "w.pth")
    digest = hashlib.sha256((cache / "w.pth").read_bytes()).hexdigest()[:8]
    path = (cache / "w.pth").rename(cache / f"shufflenet-{digest}.pth")
    published = dataclasses.replace(WEIGHTS.value, url=f"https://download.pytorch.org/models/{path.name}")
    monkeypatch.setattr(WEIGHTS, "_value_", published)
    return path


def test_without_network_the_file_its_address_and_its_place_are_told(ptft: Ptft, cache: Path) -> None:
    result = ptft("finetune", "--from", NAME, "--data", "photos")
    assert (result.code, result.out) == (4, "")
    assert WEIGHTS.url in result.err
    assert str(cache) in result.err
    assert result.err.count("\n") == 1


def test_weights_in_the_cache_bring_statistics_size_and_class_names(
    ptft: Ptft, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(cache, monkeypatch)
    make_images(tmp_path / "pets", {"tabby": COLOURS["red"], "tench": COLOURS["green"], "nessie": COLOURS["blue"]}, 6)
    train = "train={steps: 1, batch_size: 4, precision: fp32, memory_format: contiguous}"
    settings = ["--set", train, "--set", "data.image_size=32", "--set", "device=cpu"]
    result = ptft("finetune", "--from", NAME, "--data", "pets", "--json", *settings)
    assert result.code == 0, result.err
    assert "100.0 % of the backbone loaded" in result.err
    assert "head rows kept by class name: tabby, tench" in result.err
    assert "gives the features of torchvision's own shufflenet_v2_x0_5" in result.err
    metadata = checkpoint.read(Path(result.json["checkpoint"])).metadata
    assert (metadata.mean, metadata.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert metadata.config["transfer"]["from"] == NAME
    assert json.loads(Path("runs/pets/status.json").read_text())["source"] == NAME
    assert "recognised as shufflenet_v2_x0_5" in ptft("inspect", NAME).out


def test_a_cached_file_that_is_not_what_its_name_says_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plant(cache, monkeypatch)
    assert read_source(NAME).classes[0] == "tench"
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(CheckpointError, match="is damaged: its SHA-256"):
        read_source(NAME)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("resnet18", "Write for example torchvision:ResNet18_Weights.IMAGENET1K_V1"),
        ("ResNet18_Weights.V9", "no weights of this name"),
        ("ViT_B_16_Weights.IMAGENET1K_V1", "not weights of a CNN classifier"),
        ("", "no weights of this name"),
    ],
)
def test_names_that_are_no_weights_of_a_cnn_are_refused(name: str, advice: str) -> None:
    with pytest.raises(CheckpointError, match=advice):
        read_source(f"torchvision:{name}")


def test_timm_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"pip install 'ptft\[timm\]'"):
        read_source("timm:resnet18")


def proved(name: str) -> tuple[str, str]:
    """The model that a timm network of random weights is recognised as, and the proof."""
    timm = pytest.importorskip("timm", reason="timm is not installed: NOT TESTED against the real package")
    from ptft.transfer.sources.timm import of_timm

    torch.manual_seed(0)
    network = timm.create_model(name)
    network.train()(torch.randn(2, 3, 64, 64))
    source = of_timm(network, name, None)
    assert source.model is not None
    target = source.model.build(2, 3)
    report = transfer(target, source.tensors, source_classes=(), target_classes=("a", "b"), min_loaded=1.0)
    return source.model.name, prove(target, source.model, source, report)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("resnet18", "resnet18"),
        ("convnext_tiny", "convnext_tiny"),
        ("efficientnet_b0", "efficientnet_b0"),
        ("regnety_004", "regnet_y_400mf"),
        ("densenet121", "densenet121"),
    ],
)
def test_a_network_of_timm_gives_its_features(name: str, model: str) -> None:
    recognised, proof = proved(name)
    assert recognised == model
    assert "gives the features of timm's own network" in proof


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "efficientnet_b5"])
def test_a_network_of_timm_that_computes_otherwise_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError):
        proved(name)
