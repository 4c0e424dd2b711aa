"""How the gradient of a rank's share becomes that of the global batch, the same to the bit on every rank."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from ptft.distributed.agreement import Agreement
from ptft.runtime import sent

_BUCKET_MB = 25.0


def pieces(count: int, number: int) -> list[int]:
    """Sizes of the `number` parts, as equal as can be, that `count` things in a row are cut into."""
    return [count // number + (place < count % number) for place in range(number)]


class Exchange(Protocol):
    """What becomes of the micro-batches of a step."""

    @property
    def factor(self) -> float:
        """On the loss before the backward pass."""
        ...

    def places(self, batch_size: int) -> range:
        """Which images of a global batch this rank takes."""
        ...

    def begin(self, model: nn.Module, buffers: Sequence[Tensor]) -> None:
        """A step, or an attempt at one, begins; `buffers` are copies of the model's."""
        ...

    def sizes(self, num_images: int, number: int) -> list[int]:
        """Of the micro-batches that this rank's images of a step are cut into, `number` of them at least."""
        ...

    def drawer(self, place: int) -> int | None:
        """Whose dropout begins at this micro-batch; None goes on drawing from the last one's."""
        ...

    def part(self, model: nn.Module, is_last: bool) -> AbstractContextManager[nn.Module]:
        """Around forward and backward pass of a micro-batch; yields what to call."""
        ...

    def add(self, model: nn.Module, loss: Tensor) -> None:
        """A micro-batch is done: its loss, a scalar, and its gradient in the parameters."""
        ...

    def finish(self, model: nn.Module) -> Tensor:
        """Leaves the gradient of the global batch in the parameters, its statistics in the buffers; the mean loss."""
        ...


class Local:
    """The sum over the micro-batches of one rank, as autograd forms it; what is left to do when there is only one.

    Args:
        rank: whose dropout it is.
    """

    factor = 1.0

    def __init__(self, rank: int = 0) -> None:
        self._rank = rank
        self._loss: Tensor | None = None

    def places(self, batch_size: int) -> range:
        return range(batch_size)

    def begin(self, model: nn.Module, buffers: Sequence[Tensor]) -> None:
        self._loss = None

    def sizes(self, num_images: int, number: int) -> list[int]:
        # A run that had to cut its batches on fewer ranks may go on with fewer images on each.
        return pieces(num_images, min(number, num_images))

    def drawer(self, place: int) -> int | None:
        return None if place else self._rank

    def part(self, model: nn.Module, is_last: bool) -> AbstractContextManager[nn.Module]:
        return nullcontext(model)

    def add(self, model: nn.Module, loss: Tensor) -> None:
        self._loss = loss if self._loss is None else self._loss + loss

    def finish(self, model: nn.Module) -> Tensor:
        if self._loss is None:
            raise ValueError("a step has at least one micro-batch")
        return self._loss


class Overlapped(Local):
    """Sums over the ranks while the last micro-batch's backward pass goes on: torch's DistributedDataParallel.

    Nothing is sent in the micro-batches before it. Of the buffers, every rank gets the mean over the ranks of what
    the step has changed: batch norm's running statistics take in all images of the batch. They move once for all ranks,
    where as many micro-batches of one rank would move them one after the other.

    Args:
        agreement: of two ranks or more; it travels along.
        compress: gradients travel as bfloat16.
        bucket_mb: how many megabytes are sent at once.
    """

    def __init__(self, agreement: Agreement, *, compress: bool = False, bucket_mb: float = _BUCKET_MB) -> None:
        super().__init__(agreement.ranks.rank)
        self._ranks = agreement.ranks
        self._agreement = agreement
        self._compress = compress
        self._bucket_mb = bucket_mb
        self._wrapper: nn.parallel.DistributedDataParallel | None = None
        self._trained: list[bool] = []
        self._buffers: Sequence[Tensor] = ()

    @property
    def factor(self) -> float:  # type: ignore[override]
        return self._ranks.world_size  # DistributedDataParallel divides by it

    def places(self, batch_size: int) -> range:
        return range(*self._ranks.bounds(batch_size))

    def begin(self, model: nn.Module, buffers: Sequence[Tensor]) -> None:
        super().begin(model, buffers)
        self._buffers = buffers
        trained = [parameter.requires_grad for parameter in model.parameters()]
        if trained != self._trained:
            self._wrapper = None  # its hooks go with it
            self._wrapper, self._trained = self._wrap(model), trained

    def _wrap(self, model: nn.Module) -> nn.parallel.DistributedDataParallel:
        """A wrapper for the parameters that are trained now."""
        # torch 2.14 has another name for `broadcast_buffers` and warns of this one, the only one that 2.10 knows.
        with self._ranks.waiting(), catch_warnings():
            simplefilter("ignore", FutureWarning)
            wrapper = nn.parallel.DistributedDataParallel(
                model, broadcast_buffers=False, gradient_as_bucket_view=True, bucket_cap_mb=self._bucket_mb
            )
        if self._compress:
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

            wrapper.register_comm_hook(None, bf16_compress_hook)
        return wrapper

    @contextmanager
    def part(self, model: nn.Module, is_last: bool) -> Iterator[nn.Module]:
        if self._wrapper is None:
            raise ValueError("begin comes first")
        with self._ranks.waiting(), nullcontext() if is_last else self._wrapper.no_sync():
            yield self._wrapper

    def finish(self, model: nn.Module) -> Tensor:
        loss = super().finish(model) / self.factor
        changes = [new - old for new, old in moving(model, self._buffers)]
        words = sent(torch.tensor(self._agreement.words(), dtype=loss.dtype), loss.device)
        vector = torch.cat([loss.reshape(1), words, *(change.reshape(-1) for change in changes)])
        self._ranks.add_up(vector)
        total, words, rest = vector.split([1, len(words), len(vector) - 1 - len(words)])
        self._agreement.hear(words)
        move(model, self._buffers, rest / self._ranks.world_size)
        mean: Tensor = total[0]
        return mean


def moving(model: nn.Module, buffers: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The buffers that are no counters, each with what it was before the step."""
    pairs = zip(model.buffers(), buffers, strict=True)
    return [(buffer, before) for buffer, before in pairs if buffer.is_floating_point()]


def move(model: nn.Module, buffers: Sequence[Tensor], changes: Tensor) -> None:
    """Makes the buffers what they were before the step plus `changes`, all of them in one row."""
    pairs = moving(model, buffers)
    for (buffer, before), change in zip(pairs, changes.split([old.numel() for _, old in pairs]), strict=True):
        buffer.copy_(before + change.view_as(before))
