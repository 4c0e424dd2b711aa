"""Our own CNNs for small images: size, initialisation, and that they learn."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ptft.models import SmallCnn, SmallResnet, SmallVgg
from ptft.models.classifier import Classifier
from ptft.models.small_nets import ConvBnGelu, Residual, SmallVggBackbone

Small = SmallCnn | SmallResnet | SmallVgg
SMALL: list[Small] = [SmallCnn(), SmallResnet(), SmallVgg()]
by_name = pytest.mark.parametrize("config", SMALL, ids=lambda config: config.name)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("config", "millions"), [(SmallCnn(), 0.1), (SmallResnet(), 1.6), (SmallVgg(), 2.0)])
def test_summary_states_the_number_of_parameters(config: Small, millions: float) -> None:
    assert round(count_parameters(config.build(num_classes=10, in_channels=1)) / 1e6, 1) == millions
    assert f"{millions} M parameters" in config.summaries()[config.name]


@by_name
@pytest.mark.parametrize("size", [(0, 0), (1, 5), (2, 2), (20, 20), (25, 56)])
def test_any_size_from_the_minimum_works(config: Small, size: tuple[int, int]) -> None:
    smallest = config.min_image_size()
    assert smallest == (9 if config.name == "small-vgg" else 8)
    size = (smallest + size[0], smallest + size[1])
    logits = config.build(num_classes=5, in_channels=2)(torch.randn(2, 2, *size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@by_name
def test_width_scales_every_stage(config: Small) -> None:
    narrow = config.model_copy(update={"width": 4}).build(num_classes=2, in_channels=1)
    wide = config.model_copy(update={"width": 8}).build(num_classes=2, in_channels=1)
    assert wide.feature_dim == 2 * narrow.feature_dim


@pytest.mark.parametrize(
    "config", [SmallCnn(), SmallResnet(), SmallVgg(init="he", whiten=False)], ids=lambda config: config.name
)
def test_convolutions_start_with_the_variance_of_he_and_no_bias(config: Small) -> None:
    for module in config.build(num_classes=10, in_channels=3).modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            expected = math.sqrt(2 / (9 * module.out_channels))
            standard_error = expected / math.sqrt(2 * module.weight.numel())
            assert module.bias is None
            assert abs(module.weight.std().item() - expected) < 5 * standard_error


def test_stages_have_names_that_recipes_can_use() -> None:
    cnn = SmallCnn().build(num_classes=2, in_channels=1).backbone
    resnet = SmallResnet().build(num_classes=2, in_channels=1).backbone
    vgg = SmallVgg().build(num_classes=2, in_channels=1).backbone
    assert [name for name, child in vgg.named_children() if child.state_dict()] == [
        "stem",
        "stage1",
        "stage2",
        "stage3",
    ]
    assert [name for name, _ in cnn.named_children()] == ["stage1", "stage2", "stage3"]
    assert [name for name, _ in resnet.named_children()] == ["stem", "stage1", "stage2", "stage3"]


def test_residual_with_a_silent_branch_is_the_identity() -> None:
    residual = Residual(4)
    nn.init.zeros_(residual.second.bn.weight)
    maps = torch.randn(2, 4, 5, 5)
    assert torch.equal(residual(maps), maps)


@pytest.mark.parametrize(("in_channels", "out_channels"), [(3, 8), (8, 8), (8, 5)])
def test_convolutions_can_start_by_passing_channels_on(in_channels: int, out_channels: int) -> None:
    maps = torch.randn(2, in_channels, 5, 7)
    kept = min(in_channels, out_channels)
    passed = ConvBnGelu(in_channels, out_channels, identity=True).conv(maps)
    drawn = ConvBnGelu(in_channels, out_channels, identity=False).conv(maps)
    assert torch.equal(passed[:, :kept], maps[:, :kept])
    assert not torch.allclose(drawn[:, :kept], maps[:, :kept], atol=0.1)
    assert bool(passed[:, kept:].any()) == (out_channels > in_channels)


@pytest.mark.parametrize("side", [9, 10, 27, 32])
def test_the_vgg_computes_what_its_paper_draws(side: int) -> None:
    """Against the same layers called one after the other, with pooling where section 3.1 has it."""
    vgg = SmallVgg(width=4).build(num_classes=2, in_channels=3).eval()
    tensors = {name.removeprefix("backbone."): tensor for name, tensor in vgg.state_dict().items()}
    images = torch.randn(2, 3, side, side)
    maps = F.gelu(F.conv2d(images, tensors["stem.weight"], tensors["stem.bias"]))
    for stage, block in [(stage, block) for stage in (1, 2, 3) for block in (0, 1)]:
        of = f"stage{stage}.{block}."
        maps = F.conv2d(maps, tensors[of + "conv.weight"], padding="same")
        maps = maps if block else F.max_pool2d(maps, 2)
        mean, var, bias = (tensors[of + "bn." + name] for name in ("running_mean", "running_var", "bias"))
        maps = F.gelu(F.batch_norm(maps, mean, var, tensors[of + "bn.weight"], bias))
    expected = maps.amax(dim=(2, 3)) / 9
    torch.testing.assert_close(vgg.features(images), expected)
    assert (vgg.features(images.flip(1)) - expected).abs().max() > 1e-3


def loss_after_training(classifier: Classifier, steps: int) -> float:
    images, labels = torch.randn(16, 1, 12, 12), torch.arange(16) % 4
    # The logits of small-vgg are scaled down.
    lr = 2.0 if isinstance(classifier.backbone, SmallVggBackbone) else 0.1
    optimizer = torch.optim.SGD(classifier.parameters(), lr=lr, momentum=0.9)
    for _ in range(steps):
        loss = F.cross_entropy(classifier(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return F.cross_entropy(classifier(images), labels).item()


@by_name
def test_overfits_one_batch_of_noise(config: Small) -> None:
    narrow = config.model_copy(update={"width": 8})
    assert loss_after_training(narrow.build(num_classes=4, in_channels=1), steps=40) < 0.05


@by_name
def test_a_dead_backbone_cannot_overfit(config: Small) -> None:
    """The negative control of the test above: without features, at best one guesses, at a loss of log 4."""
    classifier = config.model_copy(update={"width": 8}).build(num_classes=4, in_channels=1)
    classifier.backbone.register_forward_hook(lambda _module, _images, features: 0 * features)
    assert loss_after_training(classifier, steps=40) > 0.95 * math.log(4)
