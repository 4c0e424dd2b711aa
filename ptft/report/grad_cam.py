"""Where in an image a classifier found what speaks for a class."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptft.models.classifier import Classifier


def grad_cam(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor | None:
    """Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) on the backbone's last feature map of more than a pixel.

    Args:
        classifier: in eval mode.
        images: float32 (B, C, S, S), normalised, on the classifier's device.
        targets: int64 (B,), the class to ask about for each image.

    Returns:
        Heat (B, h, w) in [0, 1], the largest of each image 1 (all 0 where nothing speaks for the class), on the CPU;
        None when the backbone is no CNN: it has no such map, or goes on with tokens after it.
    """
    # The images, and not the weights, are what gradients flow to: a frozen backbone has none of its own.
    with torch.enable_grad(), _watch(classifier.backbone) as seen:
        logits = classifier(images.detach().clone().requires_grad_())
    if seen.maps is None:
        return None
    chosen = logits.gather(1, targets[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, seen.maps, allow_unused=True)
    if gradient is None:
        return None
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = (weights * seen.maps).sum(dim=1).relu().detach()
    return (heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).cpu()


@dataclass
class _Seen:
    """The last (B, C, h, w) that a module gave, h and w above 1."""

    maps: Tensor | None = None

    def look(self, _module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            self.maps = output
        elif isinstance(output, Tensor) and output.ndim == 3:
            self.maps = None


@contextmanager
def _watch(backbone: nn.Module) -> Iterator[_Seen]:
    seen = _Seen()
    hooks = [module.register_forward_hook(seen.look) for module in backbone.modules()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
