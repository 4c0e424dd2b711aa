"""Random rectangles of a given area and shape, and erasing what is in them."""

import math

import torch
from torch import Tensor

from ptft.augment.draws import Draws

_TRIES = 10
_ERASED_AREA = (0.02, 0.4)
_ERASED_RATIO = 10 / 3


def random_boxes(draws: Draws, size: int, area: tuple[float, float], ratio: float) -> tuple[Tensor, Tensor]:
    """One random box per sample: uniform in area, log-uniform in shape, uniform in place.

    Szegedy et al. 2015 (Going deeper with convolutions, section 6), as torchvision does it: of ten
    candidates the first that fits the image is taken.

    Args:
        draws: where the numbers come from; two calls.
        size: S, the side of the square image in pixels.
        area: least and greatest area, as fractions of the image.
        ratio: greatest ratio of the longer side to the shorter, at least 1.

    Returns:
        boxes: int64 (B, 4): top, left, height, width in pixels; the whole image where no candidate fits.
        fits: bool (B,), whether a candidate fits.
    """
    # float64: a last-bit difference between exp kernels must not move a side across a rounding boundary.
    chances = draws.uniform(2 * _TRIES).to(torch.float64)
    areas = size * size * (area[0] + (area[1] - area[0]) * chances[:, :_TRIES])
    ratios = ((2 * chances[:, _TRIES:] - 1) * math.log(ratio)).exp()
    sides = torch.stack(((areas / ratios).sqrt(), (areas * ratios).sqrt()), dim=2).round()
    fitting = ((sides > 0) & (sides <= size)).all(dim=2)
    first = fitting.to(torch.uint8).argmax(dim=1)
    fits = fitting.any(dim=1)
    chosen = sides.gather(1, first[:, None, None].expand(-1, 1, 2))[:, 0]
    chosen = torch.where(fits[:, None], chosen, size)
    corners = (draws.uniform(2) * (size + 1 - chosen)).floor()
    return torch.cat((corners, chosen), dim=1).to(torch.int64), fits


def erase(images: Tensor, boxes: Tensor, erased: Tensor) -> Tensor:
    """Paints a box of the chosen images in the image's own mean colour.

    Args:
        images: (B, C, S, S), uint8 or float32.
        boxes: int64 (B, 4): top, left, height, width.
        erased: bool (B,), which images lose their box.

    Returns:
        (B, C, S, S) of the same dtype.
    """
    steps = torch.arange(images.shape[-1], device=images.device)
    top, left, height, width = boxes[:, :, None].unbind(1)
    rows = (steps >= top) & (steps < top + height)
    columns = (steps >= left) & (steps < left + width)
    hole = rows[:, :, None] & columns[:, None, :] & erased[:, None, None]
    # float64 sums do not depend on the order of the terms here, hence not on the batch or on the threads.
    means = images.mean(dim=(2, 3), keepdim=True, dtype=torch.float64)
    means = means if images.is_floating_point() else means.round()
    # Products, as torch.where on uint8 is 10 times slower on a CPU.
    holes = hole[:, None].to(images.dtype)
    return images * (1 - holes) + means.to(images.dtype) * holes


def random_erasing(images: Tensor, draws: Draws, p: float) -> Tensor:
    """Erases a random box with probability `p`.

    Zhong et al. 2020 (Random erasing data augmentation, algorithm 1): area 0.02 to 0.4 of the image and ratio
    up to 10/3 as there, but filled with the image's mean colour, the paper's best fill being noise.

    Args:
        images: (B, C, S, S), uint8 or float32.
        draws: where the numbers come from; three calls.
        p: probability in [0, 1].

    Returns:
        (B, C, S, S) of the same dtype.
    """
    chosen = draws.coin(p)
    boxes, fits = random_boxes(draws, images.shape[-1], _ERASED_AREA, _ERASED_RATIO)
    return erase(images, boxes, chosen & fits)
