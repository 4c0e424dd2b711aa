"""Evaluation meets every image once, in batches that memory bears."""

import pytest
import torch
from torch import nn

from ptft.data.images import ResidentImages
from ptft.data.task import Examples, Format
from ptft.runtime import Precision
from ptft.train.evaluate import logits_of


class Watched(nn.Module):
    """Answers the first pixel of each image and notes how many it is given at once; has memory for `most`."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.most, self.tried, self.given = most, list[int](), list[int]()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(images))
        if len(images) > self.most:
            raise MemoryError
        self.given.append(len(images))
        return images[:, :, 0, 0]


def answers(network: Watched, image_size: int, count: int) -> list[int]:
    """Of grey images of which each shows its own number, in the order of evaluation."""
    numbers = torch.arange(count, dtype=torch.uint8)
    images = numbers[:, None, None, None].expand(count, 1, image_size, image_size).contiguous()
    examples = Examples(ResidentImages(images), torch.zeros(count).long(), ["image"] * count)
    found = list(logits_of(network, examples, Format(image_size, 1, (0.0,), (1 / 255,)), torch.device("cpu")))
    assert torch.equal(torch.cat([rows for rows, _ in found]), torch.arange(count))
    return torch.cat([logits for _, logits in found]).flatten().round().int().tolist()


@pytest.mark.parametrize(
    ("image_size", "given"), [(8, [128, 22]), (96, [64, 64, 22]), (128, [36, 36, 36, 20, 22]), (400, [16] * 9 + [6])]
)
def test_large_images_pass_in_smaller_parts(image_size: int, given: list[int]) -> None:
    network = Watched()
    assert answers(network, image_size, 150) == list(range(150))
    assert network.given == given


def test_where_memory_runs_out_batches_become_smaller_and_every_image_still_counts_once() -> None:
    network = Watched(most=40)
    assert answers(network, 8, 150) == list(range(150))
    assert network.given == [32] * 4 + [22]


def test_what_memory_does_not_bear_is_not_tried_again() -> None:
    network = Watched(most=9)
    assert answers(network, 224, 20) == list(range(20))
    assert network.tried == [16, 8, 8, 4]


def test_an_image_that_memory_does_not_bear_alone_is_an_error() -> None:
    with pytest.raises(MemoryError):
        answers(Watched(most=0), 8, 3)


@pytest.mark.parametrize("is_training", [True, False])
def test_networks_are_judged_in_eval_mode_and_left_as_they_were(is_training: bool) -> None:
    network = Watched().train(is_training)
    modes: list[bool] = []
    network.register_forward_pre_hook(lambda *_: modes.append(network.training))
    answers(network, 8, 3)
    assert modes == [False]
    assert network.training is is_training


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_logits_are_computed_in_the_precision_asked_for_and_given_in_float32(
    precision: Precision, dtype: torch.dtype
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    computed: list[torch.dtype] = []
    network.register_forward_hook(lambda _, __, logits: computed.append(logits.dtype))
    examples = Examples(
        ResidentImages(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)), torch.zeros(3).long(), ["image"] * 3
    )
    format_ = Format(8, 1, (0.0,), (1.0,))
    ((_, logits),) = logits_of(network, examples, format_, torch.device("cpu"), precision)
    assert computed == [dtype]
    assert logits.dtype == torch.float32
