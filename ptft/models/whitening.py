"""A first convolution that whitens the patches of the images: computed from their covariance, not learned."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL = 2
"""Height and width of a patch."""
_EPSILON = 5e-4
"""Added to the eigenvalues, of images normalised to variance 1, lest noise be blown up: as in Jordan 2024."""


class PatchMoments:
    """Sums over all 2x2 patches of uint8 images, from which mean and covariance follow.

    The sums are whole numbers below 2^53 for any number of patches up to 10^11, so float64 holds them exactly: they do
    not depend on the order of the images or on the number of threads.

    Args:
        in_channels: C; a patch has 4 C values, in the order of a convolution's weight: channel, row, column.

    Attributes:
        count: patches seen.
        sums: float64 (4 C,), of the values.
        products: float64 (4 C, 4 C), of the products of two values.
    """

    def __init__(self, in_channels: int) -> None:
        length = in_channels * KERNEL**2
        self.count = 0
        self.sums = torch.zeros(length, dtype=torch.float64)
        self.products = torch.zeros(length, length, dtype=torch.float64)

    def add(self, images: Tensor) -> None:
        """Counts the patches of images uint8 (B, C, H, W) in."""
        patches = F.unfold(images.double(), KERNEL).transpose(0, 1).flatten(1)
        self.count += patches.shape[1]
        self.sums += patches.sum(dim=1)
        self.products += patches @ patches.T

    def normalised(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (4 C,) and covariance (4 C, 4 C), float64, of the patches of normalised images.

        Args:
            mean, std: (C,), per channel, of pixels scaled to [0, 1], as images are normalised by.
        """
        centre, scale = (values.double().repeat_interleave(KERNEL**2) * 255 for values in (mean, std))
        average = self.sums / self.count
        covariance = self.products / self.count - average.outer(average)
        return (average - centre) / scale, covariance / scale.outer(scale)


class Whitening(nn.Conv2d):
    """2x2 convolution, without padding, whose filters are eigenvectors of the patches' covariance, each divided by the
    root of its eigenvalue, and the negations of these: as many principal directions, each seen from both sides by the
    activation that follows (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", section 3.2; after T.
    Fenchel's hlb-CIFAR10 and D. Page).

    Until `whiten` the weights are random. The filters have no gradient: pretraining leaves them as they are, and trains
    the bias. A finetuning trains what its recipe says, filters included, since the target's patches are others.

    Args:
        in_channels: C.
        filters: 8 C for each direction once with either sign. Fewer leave out the smallest eigenvalues' negations and
            then them; more repeat the filters.
    """

    def __init__(self, in_channels: int, filters: int) -> None:
        super().__init__(in_channels, filters, KERNEL)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def whiten(self, mean: Tensor, covariance: Tensor) -> None:
        """Sets filters and bias, so that responses to the patches have mean 0 and variance λ / (λ + 0.0005), and those
        to two directions have covariance 0.

        We differ: the covariance is centred, the bias is what centres the responses instead of random, and the sign of
        a filter is fixed, so that nothing is left to the linear algebra library.

        Args:
            mean, covariance: (4 C,) and (4 C, 4 C), float64, of the patches of normalised images.
        """
        eigenvalues, vectors = torch.linalg.eigh(covariance)
        scale = (eigenvalues.clamp(min=0) + _EPSILON).rsqrt()
        directions = (_with_signs(vectors) * scale).T.flip(0)  # the largest eigenvalue first
        filters = torch.cat([directions, -directions])
        filters = filters[torch.arange(self.out_channels) % len(filters)]
        self.weight.copy_(filters.view_as(self.weight))
        if self.bias is not None:
            self.bias.copy_(-(filters @ mean))


def _with_signs(vectors: Tensor) -> Tensor:
    """Columns with the sign at which the first of their large entries, half the largest or more, is positive."""
    sizes = vectors.abs()
    is_large = sizes >= sizes.amax(dim=0) / 2
    first = is_large.int().argmax(dim=0, keepdim=True)
    return vectors * vectors.gather(0, first).sign()
