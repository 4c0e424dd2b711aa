"""The batch of every step, as a pure function of the seed and the step."""

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ptft.augment import Augmentation
from ptft.augment.draws import Draws
from ptft.data.images import decodes_when_asked
from ptft.data.near import near
from ptft.data.resize import Sizes
from ptft.data.stream import StreamOrder
from ptft.data.task import Examples, Format
from ptft.runtime import derive_seed, sent

_TOGETHER = 1 << 21
"""Bytes of images that a CPU augments at once, the next steps' among them: each operation costs a few microseconds
before it touches a pixel, several times what it does to those of a small batch."""


@dataclass(frozen=True)
class Batch:
    """One global batch, or what one rank of many has of it.

    Attributes:
        images: float32 (B, C, S, S), normalised, on the device of the run; S may change from step to step.
        labels: int64 (B,), likewise.
        indices: int64 (B,), rows of the training part, on the CPU.
        num_partners: how many of the last images are other ranks', here only to be mixed with the first ones.
        global_size: images of the global batch; None where these are all.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    num_partners: int = 0
    global_size: int | None = None

    @property
    def num_own(self) -> int:
        """How many of the first images are this rank's."""
        return len(self.images) - self.num_partners

    @property
    def size(self) -> int:
        """Images of the global batch."""
        return len(self.images) if self.global_size is None else self.global_size


@dataclass(frozen=True)
class Order:
    """An endless stream of training examples: epoch after epoch, each a permutation of (seed, epoch).

    Step k takes positions k·B to (k+1)·B of the stream. Every batch is full, also where an epoch ends inside
    it and where there are fewer examples than B; every example comes exactly once an epoch.

    Attributes:
        labels: int64 (N,).
        batch_size: B, global.
        seed: the run's seed.
        balanced: each class equally often instead: an epoch is N draws in which class counts differ by at most
            one, and a class repeats only after all its images were drawn.
    """

    labels: Tensor
    batch_size: int
    seed: int
    balanced: bool = False
    _permutations: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Epochs and rows, int64 (B,) each, of a step counted from 0.

        Where classes are balanced each has epochs of its own, one a pass over its images: an image that comes again
        in the same N draws is augmented anew.
        """
        positions = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        numbers = positions // len(self.labels)
        found = torch.empty(2, len(positions), dtype=torch.int64)
        for number in numbers.unique().tolist():
            here = numbers == number
            found[:, here] = self._epoch(number)[:, positions[here] % len(self.labels)]
        return found[0], found[1]

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._permutations:
            if len(self._permutations) > 1:  # 16 bytes an image each
                self._permutations.clear()
            self._permutations[epoch] = self._permute(epoch)
        return self._permutations[epoch]

    def _permute(self, epoch: int) -> Tensor:
        """Epochs and rows of N draws, (2, N)."""
        generator = torch.Generator().manual_seed(derive_seed("order", self.seed, epoch))
        if not self.balanced:
            rows = torch.randperm(len(self.labels), generator=generator)
            return torch.stack([torch.full_like(rows, epoch), rows])
        classes = [rows.flatten() for rows in map(torch.nonzero, self.labels == self.labels.unique()[:, None])]
        share = -(-len(self.labels) // len(classes))
        # Round by round one image of each class, in a fresh order of classes, until there are N.
        columns = [_repeat(rows, share, epoch, generator) for rows in classes]
        rounds = torch.stack(columns, dim=2).unbind(1)
        shuffled = [draws[:, torch.randperm(len(classes), generator=generator)] for draws in rounds]
        return torch.cat(shuffled, dim=1)[:, : len(self.labels)]


def _repeat(rows: Tensor, count: int, epoch: int, generator: torch.Generator) -> Tensor:
    """`count` of `rows`, each permutation of them used up before the next begins: their own epochs and rows, (2, n)."""
    times = -(-count // len(rows))
    drawn = torch.cat([rows[torch.randperm(len(rows), generator=generator)] for _ in range(times)])
    # An odd number, so that those of one place in two epochs are by turns even and odd, as flip: alternating needs.
    epochs = epoch * (times | 1) + torch.arange(times).repeat_interleave(len(rows))
    return torch.stack([epochs, drawn])[:, :count]


class Batches:
    """Makes the normalised, augmented batch of any step.

    Args:
        examples: the training part; of the larger images where it has them. They move to a GPU where they fit.
        format_: size and channel statistics.
        order: which examples a step takes.
        augmentation: applied to the whole batch, with randomness of (seed, epoch, row) for each image.
        device: where the batch goes.
        own: the places of the global batch that this rank takes; None for all.
        mixes: whether each image will be mixed with the one at the mirrored place, which another rank may have.
        sizes: the side that augmented images are scaled to at each step; None leaves them.

    Attributes:
        seconds: spent in `at` so far, as far as it waits: a GPU may be computing meanwhile.
        num_made: batches made in that time, some of which nobody may have asked for yet.
    """

    def __init__(
        self,
        examples: Examples,
        format_: Format,
        order: Order | StreamOrder,
        augmentation: Augmentation,
        device: torch.device,
        own: range | None = None,
        mixes: bool = False,
        sizes: Sizes | None = None,
    ) -> None:
        self._images = near(examples.to_augment, device)
        self._labels = examples.labels
        self._format = format_
        self._order = order
        self._augmentation = augmentation
        self._device = device
        self._sizes = sizes
        self._own = range(order.batch_size) if own is None else own
        # Mirrored at its middle, the row of own images and their partners mixes as the global batch would.
        mirrored = range(order.batch_size - self._own.stop, order.batch_size - self._own.start)
        self._partners = mirrored if mixes and mirrored != self._own else range(0)
        self._places = torch.tensor([*self._own, *self._partners])
        self._num_together = self._most_together = 1
        if device.type == "cpu" and not decodes_when_asked(self._images):
            num_bytes = len(self._places) * self._images.take(torch.tensor([0])).nbytes
            self._most_together = max(1, _TOGETHER // num_bytes)
        self._made: dict[int, tuple[Tensor, Tensor]] = {}
        self.seconds = 0.0
        self.num_made = 0

    def at(self, step: int) -> Batch:
        """The batch of a step counted from 0."""
        start = time.monotonic()
        batch = self._make(step)
        self.seconds += time.monotonic() - start
        return batch

    def _make(self, step: int) -> Batch:
        if step not in self._made:
            self._made = self._augmented(range(step, step + self._num_together))
            self.num_made += len(self._made)
            # Not at once as many as possible: a run may be short, or want only one.
            self._num_together = min(2 * self._num_together, self._most_together)
        images, rows = self._made.pop(step)
        if self._sizes is not None:
            images = _scaled(images, self._sizes.at(step))
        images = self._format.normalize(images)
        labels = sent(self._labels[rows], self._device)
        return Batch(images, labels, rows, len(self._partners), self._order.batch_size)

    def _augmented(self, steps: range) -> dict[int, tuple[Tensor, Tensor]]:
        """Images and rows of each of the steps: the same numbers, however many steps there are."""
        epochs, rows = (
            torch.cat([places[self._places] for places in parts])
            for parts in zip(*map(self._order.at, steps), strict=True)
        )
        images = sent(self._images.take(rows), self._device)
        draws = Draws(self._order.seed, sent(epochs, self._device), sent(rows, self._device))
        size = len(self._places)
        made = zip(self._augmentation(images, draws).split(size), rows.split(size), strict=True)
        return dict(zip(steps, made, strict=True))


def _scaled(images: Tensor, side: int) -> Tensor:
    """Images (B, C, S, S) at another side, bilinear and antialiased; as they are where it is theirs."""
    if images.shape[-1] == side:
        return images
    # In float32: for uint8 torch has no such kernel on GPUs.
    return interpolate(images.to(torch.float32), size=(side, side), mode="bilinear", antialias=True)
