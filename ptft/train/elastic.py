"""The same sums in the same order on any number of ranks: weights that do not depend on how many there were."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ptft.distributed.agreement import Agreement
from ptft.runtime import sent
from ptft.train.exchange import move, moving, pieces


@dataclass
class Tree:
    """The sum of vectors 0, 1, 2, … in the order of a binary tree over their places.

    Two neighbours are added as soon as both are whole subtrees of one size; what is left at the end is added from the
    right. So it does not matter which rank has added which of them.

    Attributes:
        nodes: first place, number of places and sum of each subtree that waits for its neighbour.
    """

    nodes: list[tuple[int, int, Tensor]] = field(default_factory=list)

    def push(self, start: int, size: int, vector: Tensor) -> None:
        """The sum of the `size` places from `start` on, which follow those that are there; may be overwritten."""
        self.nodes.append((start, size, vector))
        while len(self.nodes) > 1:
            (left, left_size, total), (_, right_size, other) = self.nodes[-2:]
            if left_size != right_size or left % (2 * left_size):
                return
            self.nodes[-2:] = [(left, 2 * left_size, total.add_(other))]

    def total(self) -> Tensor:
        """The sum of all."""
        while len(self.nodes) > 1:
            (left, left_size, total), (_, right_size, other) = self.nodes[-2:]
            self.nodes[-2:] = [(left, left_size + right_size, total.add_(other))]
        return self.nodes[0][2]


def subtrees(start: int, stop: int) -> list[tuple[int, int]]:
    """First place and size of each node of a tree that has been given the places from start to stop."""
    tree = Tree()
    for place in range(start, stop):
        tree.push(place, 1, torch.zeros(()))
    return [(left, size) for left, size, _ in tree.nodes]


class Elastic:
    """Deals the micro-batches to the ranks and adds up what each comes to along a `Tree`.

    Every micro-batch begins with the same buffers and dropout of its own; its gradient, loss and change of the buffers
    are one vector. A rank adds what lies within its micro-batches; then each gets a slice of all sums, adds these, and
    gives its slice of the total to the others.

    Args:
        agreement: of at most as many ranks as micro-batches; it travels along.
        batch_size: global.
        number: of micro-batches of the global batch.
    """

    factor = 1.0

    def __init__(self, agreement: Agreement, batch_size: int, number: int) -> None:
        ranks = agreement.ranks
        self._ranks = ranks
        self._agreement = agreement
        self._pieces = pieces(batch_size, number)
        self._first, self._stop = ranks.bounds(number)
        world = range(ranks.world_size)
        self._layout = [subtrees(rank * number // len(world), (rank + 1) * number // len(world)) for rank in world]
        self._tree = Tree()
        self._next = self._first
        self._buffers: Sequence[Tensor] = ()
        self._trained: list[nn.Parameter] = []

    def places(self, batch_size: int) -> range:
        return range(sum(self._pieces[: self._first]), sum(self._pieces[: self._stop]))

    def begin(self, model: nn.Module, buffers: Sequence[Tensor]) -> None:
        self._tree, self._next, self._buffers = Tree(), self._first, buffers

    def sizes(self, num_images: int, number: int) -> list[int]:
        return self._pieces[self._first : self._stop]

    def drawer(self, place: int) -> int | None:
        return self._first + place

    def part(self, model: nn.Module, is_last: bool) -> AbstractContextManager[nn.Module]:
        return nullcontext(model)

    @torch.no_grad()
    def add(self, model: nn.Module, loss: Tensor) -> None:
        self._trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
        # The words are those of ranks, not of micro-batches.
        is_first = self._next == self._first
        words = self._agreement.words() if is_first else [0.0] * self._agreement.num_words
        changes = [(new - old).reshape(-1) for new, old in moving(model, self._buffers)]
        gradients = [parameter.grad.reshape(-1) for parameter in self._trained if parameter.grad is not None]
        told = sent(torch.tensor(words, dtype=loss.dtype), loss.device)
        row = torch.cat([loss.reshape(1), told, *changes, *gradients])
        row = nn.functional.pad(row, (0, -len(row) % self._ranks.world_size))
        for parameter in self._trained:
            parameter.grad = None
        is_last = self._next == self._stop - 1
        for buffer, before in zip(model.buffers(), self._buffers, strict=True):
            # Counters are left as one micro-batch moves them, whoever has how many.
            if buffer.is_floating_point() or not is_last:
                buffer.copy_(before)
        self._tree.push(self._next, 1, row)
        self._next += 1

    @torch.no_grad()
    def finish(self, model: nn.Module) -> Tensor:
        row = self._tree.total() if self._ranks.is_alone else self._sum([node[2] for node in self._tree.nodes])
        num_words = self._agreement.num_words
        num_changes = sum(before.numel() for _, before in moving(model, self._buffers))
        num_gradients = sum(parameter.numel() for parameter in self._trained)
        sizes = [1, num_words, num_changes, num_gradients]
        loss, words, changes, gradients = row[: sum(sizes)].split(sizes)
        self._agreement.hear(words)
        move(model, self._buffers, changes / len(self._pieces))
        for parameter, gradient in zip(
            self._trained, gradients.split([parameter.numel() for parameter in self._trained]), strict=True
        ):
            # A fused optimizer walks through memory: the gradient must lie there as the parameter does.
            parameter.grad = torch.empty_like(parameter).copy_(gradient.view_as(parameter))
        mean: Tensor = loss[0].clone()
        return mean

    def _sum(self, own: Sequence[Tensor]) -> Tensor:
        """The sum over the whole tree, from this rank's subtrees."""
        world_size = self._ranks.world_size
        width = len(own[0]) // world_size
        sent = torch.stack(list(own)).view(len(own), world_size, width).transpose(0, 1).reshape(-1, width)
        received = self._ranks.deal(sent, [len(nodes) for nodes in self._layout])
        tree = Tree()
        for (start, size), part in zip((node for nodes in self._layout for node in nodes), received, strict=True):
            tree.push(start, size, part)
        return torch.cat(list(self._ranks.gather(tree.total().contiguous())))
