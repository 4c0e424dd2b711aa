"""Our own CNNs for small images: size, initialisation, and that they learn."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ptft.models import SmallCnn, SmallResnet
from ptft.models.classifier import Classifier
from ptft.models.small_nets import Residual

SMALL = [SmallCnn(), SmallResnet()]
by_name = pytest.mark.parametrize("config", SMALL, ids=lambda config: config.name)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("config", "millions"), [(SmallCnn(), 0.1), (SmallResnet(), 1.6)], ids=["cnn", "resnet"])
def test_summary_states_the_number_of_parameters(config: SmallCnn | SmallResnet, millions: float) -> None:
    assert round(count_parameters(config.build(num_classes=10, in_channels=1)) / 1e6, 1) == millions
    assert f"{millions} M parameters" in config.summaries()[config.name]


@by_name
@pytest.mark.parametrize("size", [(8, 8), (9, 13), (28, 28), (33, 64)])
def test_any_size_from_the_minimum_works(config: SmallCnn | SmallResnet, size: tuple[int, int]) -> None:
    assert config.min_image_size() == 8
    logits = config.build(num_classes=5, in_channels=2)(torch.randn(2, 2, *size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@by_name
def test_width_scales_every_stage(config: SmallCnn | SmallResnet) -> None:
    narrow = config.model_copy(update={"width": 4}).build(num_classes=2, in_channels=1)
    wide = config.model_copy(update={"width": 8}).build(num_classes=2, in_channels=1)
    assert wide.feature_dim == 2 * narrow.feature_dim


@by_name
def test_convolutions_start_with_the_variance_of_he_and_no_bias(config: SmallCnn | SmallResnet) -> None:
    for module in config.build(num_classes=10, in_channels=3).modules():
        if isinstance(module, nn.Conv2d):
            expected = math.sqrt(2 / (9 * module.out_channels))
            standard_error = expected / math.sqrt(2 * module.weight.numel())
            assert module.bias is None
            assert abs(module.weight.std().item() - expected) < 5 * standard_error


def test_stages_have_names_that_recipes_can_use() -> None:
    cnn = SmallCnn().build(num_classes=2, in_channels=1).backbone
    resnet = SmallResnet().build(num_classes=2, in_channels=1).backbone
    assert [name for name, _ in cnn.named_children()] == ["stage1", "stage2", "stage3"]
    assert [name for name, _ in resnet.named_children()] == ["stem", "stage1", "stage2", "stage3"]


def test_residual_with_a_silent_branch_is_the_identity() -> None:
    residual = Residual(4)
    nn.init.zeros_(residual.second.bn.weight)
    maps = torch.randn(2, 4, 5, 5)
    assert torch.equal(residual(maps), maps)


def loss_after_training(classifier: Classifier, steps: int) -> float:
    images, labels = torch.randn(16, 1, 12, 12), torch.arange(16) % 4
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        loss = F.cross_entropy(classifier(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return F.cross_entropy(classifier(images), labels).item()


@by_name
def test_overfits_one_batch_of_noise(config: SmallCnn | SmallResnet) -> None:
    narrow = config.model_copy(update={"width": 8})
    assert loss_after_training(narrow.build(num_classes=4, in_channels=1), steps=40) < 0.05


@by_name
def test_a_dead_backbone_cannot_overfit(config: SmallCnn | SmallResnet) -> None:
    """The negative control of the test above: without features, at best one guesses, at a loss of log 4."""
    classifier = config.model_copy(update={"width": 8}).build(num_classes=4, in_channels=1)
    classifier.backbone.register_forward_hook(lambda _module, _images, features: 0 * features)
    assert loss_after_training(classifier, steps=40) > 0.95 * math.log(4)
