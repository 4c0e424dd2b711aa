"""Images and draws that the augmentation tests share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ptft.augment.draws import Draws

MakeImages = Callable[..., Tensor]
MakeDraws = Callable[..., Draws]


@pytest.fixture(scope="session")
def make_images() -> MakeImages:
    def make(batch: int, channels: int = 3, size: int = 28) -> Tensor:
        generator = torch.Generator().manual_seed(batch + channels + size)
        return torch.randint(0, 256, (batch, channels, size, size), generator=generator, dtype=torch.uint8)

    return make


@pytest.fixture(scope="session")
def make_draws() -> MakeDraws:
    def make(indices: Tensor, epoch: int = 0) -> Draws:
        return Draws(3, torch.full_like(indices, epoch), indices)

    return make
