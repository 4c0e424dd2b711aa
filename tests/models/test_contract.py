"""Every model of the union keeps the promises that callers rely on."""

from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from ptft.models import Model, ModelConfig
from ptft.models.classifier import Classifier

ADAPTER: TypeAdapter[ModelConfig] = TypeAdapter(Model)
COMPONENTS = get_args(get_args(Model)[0])
NAMES = [name for component in COMPONENTS for name in component.summaries()]


def config_of(name: str, **fields: Any) -> ModelConfig:
    return ADAPTER.validate_python({"name": name, **fields})


def test_names_are_unique() -> None:
    assert len(NAMES) == len(set(NAMES)) == 71


def test_every_component_has_a_summary_for_each_of_its_names() -> None:
    for component in COMPONENTS:
        assert set(component.summaries()) == set(get_args(component.model_fields["name"].annotation))


def first_convolution(classifier: Classifier) -> nn.Conv2d:
    return next(module for module in classifier.modules() if isinstance(module, nn.Conv2d))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_classifier_has_the_promised_shapes_and_names(name: str, on_meta: Any) -> None:
    config = config_of(name, dropout=0.0)
    size = config.min_image_size()
    with on_meta:
        classifier = config.build(num_classes=7, in_channels=1).eval()
    assert (classifier.in_channels, classifier.num_classes) == (1, 7)
    assert classifier.head.weight.shape == (7, classifier.feature_dim)
    assert {key.split(".")[0] for key in classifier.state_dict()} == {"backbone", "head"}
    features = classifier.features(torch.empty(2, 1, size, size, device="meta"))
    assert features.shape == (2, classifier.feature_dim)
    assert classifier.classify(features).shape == (2, 7)


@pytest.mark.parametrize("name", NAMES)
def test_channels_and_dropout_are_those_of_the_config(name: str, on_meta: Any) -> None:
    with on_meta:
        classifier = config_of(name, dropout=0.25).build(num_classes=2, in_channels=4)
    first = first_convolution(classifier)
    assert first.in_channels == first.weight.shape[1] == classifier.in_channels == 4
    assert isinstance(classifier.dropout, nn.Dropout)
    assert classifier.dropout.p == 0.25


@pytest.mark.parametrize("name", ["small-cnn", "small-resnet", "small-vgg", "resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_first_convolution_takes_any_number_of_channels(name: str, channels: int, on_meta: Any) -> None:
    with on_meta:
        classifier = config_of(name, dropout=0.0).build(num_classes=2, in_channels=channels)
    assert first_convolution(classifier).in_channels == channels
    assert isinstance(classifier.dropout, nn.Identity)


@pytest.mark.parametrize("name", ["small-cnn", "small-resnet", "small-vgg", "resnet18"])
@pytest.mark.parametrize(
    "fields",
    [{"widht": 8}, {"dropout": 1.0}, {"dropout": -0.1}, {"in_channels": 0}, {"in_channels": "3"}],
    ids=lambda fields: "-".join(map(str, *fields.items())),
)
def test_faulty_fields_are_refused(name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        config_of(name, **fields)
    assert next(iter(fields)) in caught.value.errors()[0]["loc"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="resnet17"):
        config_of("resnet17")
