"""Batches made one step ahead, so that reading and decoding go on while the step before computes."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from ptft.data.batches import Batch, Batches
from ptft.data.images import Images, decodes_when_asked
from ptft.runtime import is_out_of_memory


def ahead_where_it_wins(batches: Batches, images: Images, device: torch.device) -> "Batches | Ahead":
    """The batches, made ahead where making one leaves alone what computes the step.

    That is so for a GPU, as the host is idle meanwhile, and where images are read and decoded for each batch, which
    waits for disks. A batch of images in memory, for a CPU, is work for the very cores that compute: two threads would
    do in turns what one does in order. `scripts/bench/ceiling.py` measures both.

    Args:
        batches: to make.
        images: that they are made of.
        device: that computes the steps.
    """
    return Ahead(batches) if device.type != "cpu" or decodes_when_asked(images) else batches


class Ahead:
    """The same batches, the next one begun by a thread as soon as one is handed out; at most one waits in memory.

    A batch is a function of its step alone, so it does not matter who made it, nor that one may be made in vain. What
    cannot be read is raised when its step comes.

    Args:
        batches: to make ahead.

    Attributes:
        made_at_once: the same batches, not made ahead.
        seconds: spent waiting in `at` so far.
        num_made: batches handed out in that time.
    """

    def __init__(self, batches: Batches) -> None:
        self.made_at_once = batches
        self._thread = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Batch]] | None = None
        self.seconds = 0.0
        self.num_made = 0

    def at(self, step: int) -> Batch:
        """The batch of a step counted from 0."""
        start = time.monotonic()
        begun, self._next = self._next, None
        # By the thread also where another step comes than was expected: it makes one batch at a time.
        made = begun[1] if begun and begun[0] == step else self._thread.submit(self.made_at_once.at, step)
        batch = self._result(made, step)
        self._next = (step + 1, self._thread.submit(self.made_at_once.at, step + 1))
        self.seconds += time.monotonic() - start
        self.num_made += 1
        return batch

    def _result(self, made: "Future[Batch]", step: int) -> Batch:
        """The batch; made again where memory ran out beside a step that has needed less since, or has ended."""
        try:
            return made.result()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return self._thread.submit(self.made_at_once.at, step).result()
