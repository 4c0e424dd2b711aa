"""Calibration takes what is fastest here, and spends little on what is not."""

import time
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from ptft.models import SmallResnet
from ptft.models.classifier import Classifier
from ptft.runtime import Precision, computes_bf16
from ptft.train.calibration import MemoryFormat, calibrate

CPU = torch.device("cpu")
WAYS: list[tuple[Precision, MemoryFormat]] = [("fp32", "contiguous"), ("fp32", "channels_last")]
WAYS += [("bf16", "contiguous"), ("bf16", "channels_last")]
SLOW, QUICK = 0.02, 0.002


@pytest.fixture(autouse=True)
def a_processor_with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptft.train.calibration.computes_bf16", lambda device: True)


class Sleepy(nn.Module):
    """Takes as long for a pass as it is told for the way it is called in, and notes the calls."""

    def __init__(self, seconds: Mapping[tuple[str, str], float], calls: list[tuple[str, str]]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.seconds = seconds
        self.calls = calls

    def __deepcopy__(self, memo: dict[int, object]) -> "Sleepy":
        return Sleepy(self.seconds, self.calls)

    def forward(self, images: Tensor) -> Tensor:
        is_last = images.is_contiguous(memory_format=torch.channels_last)
        way = ("bf16" if torch.is_autocast_enabled("cpu") else "fp32", "channels_last" if is_last else "contiguous")
        self.calls.append(way)
        time.sleep(self.seconds[way])
        features: Tensor = self.linear(images.mean(dim=(2, 3)))
        return features


def sleepy(seconds: Mapping[tuple[str, str], float]) -> tuple[Classifier, list[tuple[str, str]]]:
    calls: list[tuple[str, str]] = []
    return Classifier(Sleepy(seconds, calls), nn.Linear(3, 2), in_channels=3), calls


@pytest.mark.parametrize("fastest", WAYS)
def test_the_fastest_way_is_taken_and_the_others_are_given_up_after_a_few_passes(
    fastest: tuple[Precision, MemoryFormat],
) -> None:
    classifier, calls = sleepy({way: QUICK if way == fastest else SLOW for way in WAYS})
    choice, sentence = calibrate(classifier, (4, 3, 8, 8), CPU, "auto", "auto")
    assert (choice.precision, choice.memory_format) == fastest
    assert sentence.startswith(f"calibration: {fastest[0]}, {fastest[1]} (images/s forward and back: fp32 contiguous ")
    assert calls.count(fastest) > 4
    after = WAYS[::-1].index(fastest)  # the likely best are timed first; those before had nothing to be held against
    assert [calls.count(way) for way in WAYS[::-1][after + 1 :]] == [4] * (3 - after)


def test_bf16_is_not_measured_where_it_is_only_imitated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptft.train.calibration.computes_bf16", lambda device: False)
    classifier, calls = sleepy(dict.fromkeys(WAYS, QUICK))
    choice, sentence = calibrate(classifier, (4, 3, 8, 8), CPU, "auto", "auto")
    assert choice.precision == "fp32"
    assert {precision for precision, _ in calls} == {"fp32"}
    assert sentence.endswith("; no bf16 on this processor).") or "; no bf16 on this processor; not rem" in sentence


def test_without_onednn_there_is_no_bf16_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not computes_bf16(CPU)


def test_low_precision_must_be_worth_it() -> None:
    seconds = {way: SLOW if way[0] == "fp32" else 0.97 * SLOW for way in WAYS}
    classifier, _ = sleepy(seconds)
    assert calibrate(classifier, (4, 3, 8, 8), CPU, "auto", "auto")[0].precision == "fp32"


def test_what_the_config_fixes_is_not_measured() -> None:
    classifier, calls = sleepy(dict.fromkeys(WAYS, QUICK))
    choice, sentence = calibrate(classifier, (4, 3, 8, 8), CPU, "bf16", "contiguous")
    assert (choice.precision, choice.memory_format, sentence, calls) == ("bf16", "contiguous", "", [])
    assert calibrate(classifier, (4, 3, 8, 8), CPU, "bf16", "auto")[0].precision == "bf16"
    assert {precision for precision, _ in calls} == {"bf16"}


def test_single_images_are_measured_in_pairs_where_maps_end_in_one_pixel() -> None:
    """As a run may train on them one by one when it holds its batch norms' statistics."""
    model = SmallResnet(width=4).build(2, 3)
    choice, sentence = calibrate(model, (1, 3, 8, 8), CPU, "fp32", "auto")
    assert choice.memory_format in ("contiguous", "channels_last")
    assert sentence
