"""Which images weights have seen: fingerprints that travel in the checkpoint, one set for each run of the lineage."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ptft.checkpoint import DataSeen
from ptft.data.cache import Cache, remembered
from ptft.data.decode import decoder
from ptft.data.fingerprints import NUM_BYTES, PRINTS_VERSION, fingerprints_of
from ptft.data.task import Task

MAX_IMAGES = 2_000_000
"""Most images whose fingerprints a checkpoint carries (66 MB); beyond, the oldest runs' sets are left out."""


def seen_key(fingerprint: str) -> str:
    """Name of a set: the same data, seen by two runs of a lineage, is one set."""
    return fingerprint[:16]


def prints_of(data: DataSeen, seen: Mapping[str, Tensor]) -> Tensor | None:
    """Fingerprints uint8 (N, 33) of a data set, in the order of its training images; None where none travelled."""
    return seen.get(seen_key(data.fingerprint))


def with_own(
    task: Task,
    inherited: Mapping[str, Tensor],
    check_stop: Callable[[], None] = lambda: None,
    cache: Cache | None = None,
) -> dict[str, Tensor]:
    """The sets of a run: its ancestors' and that of its own training part.

    Args:
        task: of the run; where it goes on, its own set is among the inherited ones and is not made again.
        inherited: the source's sets, oldest first, or those saved by the run itself.
        check_stop: called between batches; raises when a signal asked to stop.
        cache: remembers the prints of the same images; None makes them anew.
    """
    key = seen_key(task.fingerprint)
    own = inherited[key] if key in inherited else _own_prints(task, check_stop, cache)
    room = MAX_IMAGES - len(own)
    kept = {key: own}
    for name, prints in reversed(list(inherited.items())):
        if name != key and len(prints) <= room:
            kept[name] = prints
            room -= len(prints)
    return dict(reversed(kept.items()))


def _own_prints(task: Task, check_stop: Callable[[], None], cache: Cache | None) -> Tensor:
    def make() -> bytes:
        return fingerprints_of(task.train.images, check_stop).numpy().tobytes()

    shape = (len(task.train), task.format.in_channels, task.format.image_size)
    value = remembered(cache, repr(("fingerprints", PRINTS_VERSION, decoder(), task.fingerprint, shape)), make)
    return torch.frombuffer(bytearray(value), dtype=torch.uint8).view(len(task.train), NUM_BYTES)
