"""What a transfer reports is what it did: counted by element, tensor by tensor."""

import pytest
import torch
from torch import Tensor

from ptft.errors import TransferError
from ptft.models import SmallCnn
from ptft.models.classifier import Classifier
from ptft.transfer.load import transfer
from ptft.transfer.report import TransferReport

NAMES = ("ant", "bee")


def classifier(in_channels: int = 3, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return SmallCnn(name="small-cnn", width=4).build(2, in_channels)


def load(weights: dict[str, Tensor], min_loaded: float = 0.0) -> tuple[Classifier, TransferReport]:
    target = classifier(seed=1)
    report = transfer(target, weights, source_classes=NAMES, target_classes=NAMES, min_loaded=min_loaded)
    return target, report


def outcomes(report: TransferReport) -> dict[str, str]:
    return {part.name: part.outcome for part in report.tensors}


def largest(model: Classifier) -> str:
    sizes = {name: part.numel() for name, part in model.backbone.named_parameters()}
    return f"backbone.{max(sizes, key=lambda name: sizes[name])}"


def test_the_share_that_was_loaded_is_of_numbers_not_of_tensors_and_the_floor_holds_it() -> None:
    weights = classifier().state_dict()
    missing = weights.pop(largest(classifier()))
    total = sum(part.numel() for part in classifier().backbone.parameters())
    share = 1 - missing.numel() / total
    _, report = load(weights, min_loaded=share)
    assert report.loaded_fraction == pytest.approx(share)
    assert outcomes(report)[largest(classifier())] == "fresh"
    with pytest.raises(TransferError, match="of the backbone could be loaded"):
        load(weights, min_loaded=share + 1e-6)


def test_what_only_the_source_has_is_told_and_every_tensor_of_the_target_has_a_line() -> None:
    target, report = load(classifier().state_dict() | {"backbone.other": torch.zeros(2, 3)})
    found = outcomes(report)
    assert found.pop("backbone.other") == "unused"
    assert found.keys() == target.state_dict().keys()
    assert set(found.values()) == {"loaded"}
    assert [line for line in report.sentences() if "unused backbone.other" in line]


def test_of_long_lists_the_first_are_told_and_how_many_more_there_are() -> None:
    with pytest.raises(TransferError) as failed:
        load({f"backbone.other{index:02d}": torch.zeros(2) for index in range(15)}, min_loaded=0.5)
    _, found = str(failed.value).split("15 tensors of the source without a place:\n")
    *listed, rest, _ = found.splitlines()
    assert [line.split(":")[0].strip() for line in listed] == [f"backbone.other{index:02d}" for index in range(12)]
    assert rest == "  … and 3 more"


def test_only_the_convolution_that_takes_the_images_may_change_its_channels() -> None:
    weights = classifier(in_channels=1).state_dict()
    target, report = load(weights)
    assert outcomes(report)["backbone.stage1.conv.weight"] == "adapted"
    assert report.loaded_fraction == 1.0
    inner = largest(classifier())
    weights[inner] = weights[inner][:, ::2]
    target, report = load(weights)
    assert outcomes(report)[inner] == "fresh"
    assert torch.equal(target.state_dict()[inner], classifier(seed=1).state_dict()[inner])


def test_missing_batch_norm_statistics_are_noticed() -> None:
    weights = classifier().state_dict()
    assert not load(weights)[1].lacks_statistics
    for name in list(weights):
        if name.endswith("running_var"):
            del weights[name]
    assert load(weights)[1].lacks_statistics


def test_a_bare_backbone_is_recognised_and_held_to_the_same_floor() -> None:
    whole = classifier().state_dict()
    target, report = load(whole, min_loaded=1.0)
    assert not report.is_bare
    bare = {name.removeprefix("backbone."): part for name, part in whole.items() if name.startswith("backbone.")}
    target, report = load(bare, min_loaded=1.0)
    assert report.is_bare
    assert all(torch.equal(part, whole[f"backbone.{name}"]) for name, part in target.backbone.state_dict().items())
    del bare[largest(classifier()).removeprefix("backbone.")]
    with pytest.raises(TransferError, match="of the backbone could be loaded"):
        load(bare, min_loaded=1.0)


def test_a_counter_of_batches_that_the_source_lacks_is_told_as_what_it_is() -> None:
    weights = {name: part for name, part in classifier().state_dict().items() if "num_batches" not in name}
    _, report = load(weights, min_loaded=1.0)
    told = {part.reason for part in report.tensors if part.name.endswith("num_batches_tracked")}
    assert told == {"the source counts no batches; the counter starts at 0, and nothing depends on it"}
    assert {part.outcome for part in report.tensors if "num_batches" not in part.name} == {"loaded"}
