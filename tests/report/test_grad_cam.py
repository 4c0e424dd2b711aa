"""Grad-CAM against its closed form, and on the kinds of backbones there are."""

import pytest
import torch
from torch import Tensor, nn

from ptft.models import SmallCnn, SmallResnet, TorchvisionCnn
from ptft.models.classifier import Classifier
from ptft.report.grad_cam import grad_cam


def images(count: int, channels: int = 3, size: int = 32) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_after_average_pooling_it_is_the_head_weighted_sum_of_maps() -> None:
    """With a linear head on averaged maps, eq. 1 gives the head's weight over h·w (CAM, Zhou et al. 2016)."""
    torch.manual_seed(0)
    classifier = SmallCnn(name="small-cnn", width=4).build(3, 1).eval()
    batch, targets = images(5, channels=1, size=16), torch.tensor([0, 1, 2, 1, 0])
    maps: list[Tensor] = []
    handle = classifier.backbone.get_submodule("stage3").register_forward_hook(lambda *call: maps.append(call[2]))
    with torch.no_grad():
        classifier(batch)
    handle.remove()
    found = grad_cam(classifier, batch, targets)
    assert found is not None
    for index, target in enumerate(targets.tolist()):
        expected = torch.zeros(maps[0].shape[2:])
        for weight, one in zip(classifier.head.weight[target], maps[0][index], strict=True):
            expected += weight.detach() * one
        expected = expected.clamp(min=0)
        torch.testing.assert_close(found[index], expected / expected.max().clamp(min=1e-12), rtol=1e-4, atol=1e-5)
    other = grad_cam(classifier, batch, (targets + 1) % 3)
    assert other is not None
    assert not torch.allclose(found, other)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "googlenet"])
def test_it_works_on_torchvisions_cnns(name: str) -> None:
    model = TorchvisionCnn.model_validate({"name": name})
    found = grad_cam(model.build(4, 3).eval(), images(2, size=64), torch.tensor([0, 3]))
    assert found is not None
    assert found.ndim == 3
    assert min(found.shape[1:]) > 1
    assert ((found >= 0) & (found <= 1)).all()


def test_a_frozen_backbone_changes_nothing_and_gets_no_gradient() -> None:
    torch.manual_seed(0)
    classifier = SmallResnet(name="small-resnet", width=4).build(3, 3).eval()
    free = grad_cam(classifier, images(2), torch.tensor([0, 1]))
    classifier.requires_grad_(False)
    with torch.inference_mode(False):
        frozen = grad_cam(classifier, images(2), torch.tensor([0, 1]))
    assert free is not None
    assert frozen is not None
    torch.testing.assert_close(free, frozen)
    assert all(parameter.grad is None for parameter in classifier.parameters())


class Tokens(nn.Module):
    """A patch embedding, then tokens, as in a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.mix = nn.Linear(8, 8)

    def forward(self, batch: Tensor) -> Tensor:
        tokens: Tensor = self.mix(self.patches(batch).flatten(2).transpose(1, 2))
        return tokens.mean(dim=1)


class Flat(nn.Module):
    def forward(self, batch: Tensor) -> Tensor:
        return batch.mean(dim=(2, 3))


@pytest.mark.parametrize(("backbone", "width"), [(Tokens(), 8), (Flat(), 3)])
def test_a_backbone_that_is_no_cnn_has_none(backbone: nn.Module, width: int) -> None:
    classifier = Classifier(backbone, nn.Linear(width, 2), in_channels=3).eval()
    assert grad_cam(classifier, images(2), torch.tensor([0, 1])) is None
