"""Tensors of another shape that still carry the source's knowledge: reshaped, other channels, another stem."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ptft.transfer.report import shape


def adapt(source: Tensor, target: Tensor, *, is_stem: bool) -> tuple[Tensor, str] | None:
    """A source tensor in the target's shape, and what was done in words; None where that would be guessing.

    Args:
        source: of any shape.
        target: gives the shape.
        is_stem: the weight of the convolution that takes the images, which alone may change kernel or channels.
    """
    if is_same_numbers(source, target):
        return source.reshape(target.shape), f"the same numbers, {shape(source)} written as {shape(target)}"
    if not is_stem or source.ndim != 4 or target.ndim != 4 or source.shape[0] != target.shape[0]:
        return None
    words = []
    adapted = source
    if source.shape[1] != target.shape[1]:
        adapted, told = adapt_channels(adapted, target.shape[1])
        words.append(told)
    if source.shape[2:] != target.shape[2:]:
        size, wanted = "×".join(map(str, source.shape[2:])), "×".join(map(str, target.shape[2:]))
        adapted = resize_kernel(adapted, (target.shape[2], target.shape[3]))
        words.append(f"kernel {size} to {wanted} by pseudo-inverse resizing")
    return adapted, "; ".join(words)


def is_same_numbers(source: Tensor, target: Tensor) -> bool:
    """Whether two shapes are one apart from axes of length 1, or from a flattening of all axes but the first.

    A linear layer is a convolution of kernel 1, and one over a whole map is a convolution of the map's size.
    """
    if source.shape == target.shape:
        return False
    ours, theirs = ([side for side in tensor.shape if side != 1] for tensor in (source, target))
    is_flattened = {source.ndim, target.ndim} == {2, 4} and source.flatten(1).shape == target.flatten(1).shape
    return ours == theirs or is_flattened


def adapt_channels(weight: Tensor, in_channels: int) -> tuple[Tensor, str]:
    """The first convolution's weight for images of another number of channels, as timm's `adapt_input_conv` does.

    To 1 channel the filters are summed, which gives the source's response to grey images. To N channels they are
    repeated in cyclic order and scaled by C / N, which keeps the magnitude of the response.

    Args:
        weight: (O, C, k, k).
        in_channels: N, at least 1.

    Returns:
        The weight (O, N, k, k), and what was done in words.
    """
    channels = weight.shape[1]
    if in_channels == 1:
        return weight.float().sum(dim=1, keepdim=True), f"input channels {channels} to 1, filters summed"
    repeated = weight.float().repeat(1, math.ceil(in_channels / channels), 1, 1)[:, :in_channels]
    words = f"input channels {channels} to {in_channels}, filters repeated and scaled by {channels}/{in_channels}"
    return repeated * (channels / in_channels), words


def agreeing_channels(source: int, target: int) -> bool:
    """Whether there are images on which a convolution adapted from `source` to `target` channels responds alike.

    They are grey, replicated to all channels; or of whole repetitions of the source's channels.
    """
    return target == 1 or target % source == 0


def resize_kernel(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """A kernel of another size that responds to a resized patch as the old one does to the patch itself.

    With B the matrix that resizes a patch x (bilinear, antialiased), the new kernel is the least-squares solution
    w' of <B x, w'> = <x, w>, w' = pinv(B^T) w: the PI-resize of Beyer et al. 2023 (FlexiViT, section 3.4), which
    they use for patch embeddings. A crop of the centre would see a seventh of a 7x7 filter's energy or none.

    Args:
        weight: (O, C, k, k).
        size: height and width of the new kernel.
    """
    height, width = weight.shape[2:]
    patches = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    resizing = F.interpolate(patches, size=size, mode="bilinear", antialias=True).flatten(1)
    resized = weight.double().flatten(2) @ torch.linalg.pinv(resizing).T
    kernel: Tensor = resized.unflatten(2, size).float()
    return kernel


def stem_of(backbone: nn.Module) -> str:
    """Name of the weight of the convolution that takes the images; empty where there is none."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            return f"{name}.weight"
    return ""
