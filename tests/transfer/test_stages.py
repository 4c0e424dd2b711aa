"""Stages: every parameter in exactly one, from stem to head, under names that the state dict has."""

from collections import Counter

import pytest
from torch import nn

from ptft.models import Model, SmallCnn, SmallResnet, SmallVgg, TorchvisionCnn
from ptft.transfer.stages import stages_of

MODELS: list[tuple[Model, list[str]]] = [
    (SmallCnn(name="small-cnn"), ["stage1", "stage2", "stage3"]),
    (SmallResnet(name="small-resnet"), ["stem", "stage1", "stage2", "stage3"]),
    (SmallVgg(name="small-vgg"), ["stem", "stage1", "stage2", "stage3"]),
    (TorchvisionCnn(name="resnet18"), ["conv1", "layer1", "layer2", "layer3", "layer4"]),
    (
        TorchvisionCnn(name="mobilenet_v3_small"),
        [*(f"features.{index}" for index in range(13)), "classifier"],
    ),
    (TorchvisionCnn(name="regnet_y_400mf"), ["stem", *(f"trunk_output.block{index}" for index in range(1, 5))]),
    (TorchvisionCnn(name="mnasnet0_5"), [f"layers.{index}" for index in (0, 3, 6, 8, 9, 10, 11, 12, 13, 14)]),
]


@pytest.mark.parametrize(("config", "names"), MODELS, ids=[config.name for config, _ in MODELS])
def test_stages_hold_every_parameter_once_in_the_order_of_the_network(config: Model, names: list[str]) -> None:
    backbone = config.build(3, 3).backbone
    stages = stages_of(backbone)
    assert [stage.name for stage in stages] == names
    counts = Counter(id(parameter) for stage in stages for parameter in stage.parameters())
    assert set(counts.values()) == {1}
    assert [*counts] == [id(parameter) for parameter in backbone.parameters()]


def test_a_network_of_one_layer_is_one_stage() -> None:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert [stage.name for stage in stages_of(backbone)] == ["1"]
    assert [stage.name for stage in stages_of(nn.Linear(4, 2))] == [""]
