"""Changes colours: brightness to solarize on a whole batch, each sample by its own factor.

Functions on float images keep [0, 255] and match torchvision's kernels on float images; they do not round.
Grey images (C = 1) pass unchanged where colour has no meaning (saturation, hue).
"""

import torch
from torch import Tensor

from ptft.runtime import constant

_LUMA = (0.2989, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue, in torchvision's digits."""


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with black.

    Args:
        images: float32 (B, C, H, W) in [0, 255].
        factors: float32 (B,) >= 0; 1 changes nothing.

    Returns:
        float32 (B, C, H, W) in [0, 255].
    """
    return (images * _per_image(factors)).clamp_(0, 255)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the image's mean grey; arguments as for `brightness`."""
    # float64: the sum must not depend on how the batch is split over threads.
    means = _grey(images).mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64)
    return _blend(images, means.to(torch.float32), factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the grey image; arguments as for `brightness`. Grey images pass unchanged."""
    return images if images.shape[1] == 1 else _blend(images, _grey(images), factors)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Blends the inner pixels with their 3 × 3 mean of centre weight 5; arguments as for `brightness`."""
    # Sums of slices, not a convolution: of whole numbers they are exact, and no library picks an algorithm by
    # batch size.
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    inner = images[:, :, 1:-1, 1:-1]
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = _blend(inner, (sums + 4 * inner) / 13, factors)
    return result


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turns the hue of HSV colours; grey images pass unchanged.

    The way back to RGB is the closed form V - C max(0, min(k, 4 - k, 1)) with k = (n + 6 H) mod 6 and
    n = 5, 3, 1 for red, green, blue; it equals the usual table of six cases.

    Args:
        images: float32 (B, C, H, W) in [0, 255].
        turns: float32 (B,), in whole turns of the colour circle; 0 changes nothing.

    Returns:
        float32 (B, C, H, W) in [0, 255].
    """
    if images.shape[1] == 1:
        return images
    value, chroma, sextants = _hue_circle(images)
    sextants = sextants + 6 * _per_image(turns)
    offsets = constant((5.0, 3.0, 1.0), images.device).view(1, 3, 1, 1)
    k = (offsets + sextants).remainder_(6)
    return value - k.minimum(4 - k).clamp_(0, 1).mul_(chroma)


def _hue_circle(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, chroma (both [0, 255]) and hue in sixths of a turn, each (B, 1, H, W)."""
    red, green, blue = torch.split(images, 1, dim=1)
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    # Where chroma is 0 every difference is 0 too, so any divisor gives the hue 0.
    divisor = chroma.clamp(min=torch.finfo(chroma.dtype).tiny)
    from_green = torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    return value, chroma, torch.where(value == red, (green - blue) / divisor, from_green)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keeps the high bits of every pixel.

    Args:
        images: uint8 (B, C, H, W).
        bits: int64 (B,) in [0, 8]; 8 changes nothing.

    Returns:
        uint8 (B, C, H, W).
    """
    masks = (0xFF << (8 - bits)) & 0xFF
    return images & _per_image(masks).to(torch.uint8)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Inverts the pixels at or above a threshold.

    Args:
        images: uint8 (B, C, H, W).
        thresholds: float32 (B,); above 255 nothing changes.

    Returns:
        uint8 (B, C, H, W).
    """
    return torch.where(images >= _per_image(thresholds), 255 - images, images)


def _grey(images: Tensor) -> Tensor:
    """Luma, float32 (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = torch.split(images, 1, dim=1)
    return (red * _LUMA[0]).add_(green * _LUMA[1]).add_(blue * _LUMA[2])


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    weights = _per_image(factors)
    return (images * weights).add_(others * (1 - weights)).clamp_(0, 255)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
