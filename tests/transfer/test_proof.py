"""The proof tells when the backbone computes something else, and does not claim what it cannot show."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from ptft.errors import TransferError
from ptft.models import Model, SmallCnn, TorchvisionCnn
from ptft.models.classifier import Classifier
from ptft.transfer.load import transfer
from ptft.transfer.proof import prove
from ptft.transfer.report import TransferReport
from ptft.transfer.source import SourceWeights
from ptft.transfer.sources.preprocessing import adapted_format, assumed

SMALL = SmallCnn(name="small-cnn", width=4)


def source_of(model: Model, in_channels: int = 3) -> SourceWeights:
    torch.manual_seed(0)
    return SourceWeights(model.build(2, in_channels).state_dict(), (), None, model, (), in_channels)


def moved(source: SourceWeights, model: Model, in_channels: int) -> tuple[Classifier, TransferReport]:
    torch.manual_seed(1)
    target = model.build(2, in_channels)
    report = transfer(target, source.tensors, source_classes=(), target_classes=("a", "b"), min_loaded=0.5)
    return target, report


@pytest.mark.parametrize(("before", "after"), [(3, 3), (3, 1), (1, 3), (3, 6), (2, 4)])
def test_features_agree_also_over_adapted_channels(before: int, after: int) -> None:
    source = source_of(SMALL, before)
    target, report = moved(source, SMALL, after)
    assert prove(target, SMALL, source, report).startswith("proof: on 4 fixed")
    assert target.training


@pytest.mark.parametrize("tensor", ["backbone.stage3.conv.weight", "backbone.stage1.bn.running_mean"])
def test_a_changed_number_is_found(tensor: str) -> None:
    source = source_of(SMALL)
    target, report = moved(source, SMALL, 3)
    with torch.no_grad():
        target.state_dict()[tensor].view(-1)[0] += 0.1
    with pytest.raises(TransferError, match="does not give the features") as failed:
        prove(target, SMALL, source, report)
    assert failed.value.exit_code == 4


def test_a_network_that_computes_otherwise_is_found() -> None:
    source = source_of(SMALL)
    target, report = moved(source, SMALL, 3)
    other = replace(source, network=lambda images: target.features(images).relu() * 1.001)
    with pytest.raises(TransferError, match="timm's own network"):
        prove(target.eval(), SMALL, other, report)


def test_channels_in_another_order_are_found() -> None:
    source = source_of(SMALL)
    target, report = moved(source, SMALL, 3)
    with torch.no_grad():
        target.state_dict()["backbone.stage1.conv.weight"].copy_(source.tensors["backbone.stage1.conv.weight"].flip(1))
    with pytest.raises(TransferError, match="does not give the features"):
        prove(target, SMALL, source, report)


def test_features_that_are_not_finite_are_no_proof() -> None:
    source = source_of(SMALL)
    target, report = moved(source, SMALL, 3)
    other = replace(source, network=lambda images: target.features(images) * float("nan"))
    with pytest.raises(TransferError, match="largest difference nan"):
        prove(target, SMALL, other, report)


def unproved(model: Any, target_model: Any, in_channels: int) -> str:
    source = source_of(model)
    target, report = moved(source, target_model, in_channels)
    return prove(target, target_model, source, report)


def test_no_proof_is_claimed_where_none_can_be() -> None:
    assert "adapted from 3 to 4 channels" in unproved(SMALL, SMALL, 4)
    plain, small = TorchvisionCnn(name="shufflenet_v2_x0_5"), TorchvisionCnn(name="shufflenet_v2_x0_5", small_stem=True)
    assert "the target is another network" in unproved(plain, small, 3)
    source = source_of(SMALL)
    stem = "backbone.stage1.conv.weight"
    larger = replace(source, tensors={**source.tensors, stem: torch.randn(4, 3, 5, 5)})
    target, report = moved(larger, SMALL, 3)
    assert f"{stem} has another kernel" in prove(target, SMALL, larger, report)
    tensors = {name: tensor for name, tensor in source.tensors.items() if name != stem}
    target, report = moved(replace(source, tensors=tensors), SMALL, 3)
    assert f"{stem} did not come from it" in prove(target, SMALL, source, report)
    assert "not known" in prove(target, SMALL, replace(source, model=None), report)


def test_statistics_assumed_are_those_the_network_was_trained_with() -> None:
    format_, said = assumed(TorchvisionCnn(name="resnet18"), 3)
    assert format_ is not None
    assert (format_.image_size, format_.mean) == (224, (0.485, 0.456, 0.406))
    assert "data.mean" in said
    inception, _ = assumed(TorchvisionCnn(name="inception_v3"), 3)
    assert inception is not None
    assert (inception.image_size, inception.std) == (299, (0.5, 0.5, 0.5))
    assert assumed(SMALL, 3)[0] is None
    assert adapted_format(format_, 1).mean == pytest.approx([0.449])


def test_features_that_are_all_zero_prove_nothing() -> None:
    source = source_of(SMALL)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in source.tensors.items()}
    source = replace(source, tensors=tensors)
    target, report = moved(source, SMALL, 3)
    assert prove(target, SMALL, source, report) == (
        "proof: none that the features are the source's: the source's own network gives 0 for all of them on 4 fixed "
        "images. Its weights are spoilt, or never saw images like these."
    )
