"""Views of an image that is judged: several looks at it, whose outputs are averaged (test-time augmentation)."""

from collections.abc import Iterator

from torch import Tensor
from torch.nn.functional import pad

from ptft.data.sources.base import NumViews


def views_of(images: Tensor, num_views: NumViews) -> Iterator[tuple[float, Tensor]]:
    """Each view of a batch and the weight of what the model says about it; the weights sum to 1.

    With 6 views the image and its mirror image weigh as much together as the four that are shifted by a pixel, both
    down and right or up and left, with the image mirrored at the edge (multi-crop evaluation of Jordan 2024, "94% on
    CIFAR-10 in 3.29 seconds on a single GPU").

    Args:
        images: float32 (B, C, S, S).
        num_views: 1, the image alone; 2, with its mirror image; 6, with both shifted.
    """
    if num_views == 1:
        yield 1.0, images
        return
    size, weight = images.shape[-1], 0.5 if num_views == 2 else 0.25
    yield weight, images
    yield weight, images.flip(-1)
    if num_views == 6:
        padded = pad(images, (1, 1, 1, 1), mode="reflect")
        for start in (0, 2):
            shifted = padded[..., start : start + size, start : start + size]
            yield 0.125, shifted
            yield 0.125, shifted.flip(-1)
