"""Depthwise convolutions at full speed on a CPU."""

import torch
from torch import Tensor, nn


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution (one filter for each channel) that a CPU computes in float32 also under autocast.

    oneDNN has no fast bfloat16 kernel for its gradients, which took half of the whole step of mobilenet_v3_small at 96
    pixels (`scripts/bench/convolutions.py`: 2.4 times the speed on 2 cores of an AMD EPYC, Zen 4). The result has the
    type of the input, so that what follows computes in bfloat16 as before.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that torch gives it)
        """As `nn.Conv2d`."""
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(input.dtype)


def set_depthwise(net: nn.Module) -> None:
    """Makes every depthwise convolution of a network, in place, one of this module; its weights stay where they are."""
    for part in net.modules():
        if type(part) is nn.Conv2d and 1 < part.groups == part.in_channels:
            part.__class__ = DepthwiseConv2d
