"""The order of a stream: shard after shard, shuffled within a buffer, as a pure function of the seed and the epoch.

Files on a network or on a spinning disk are fast when they are read in one go. So an epoch takes the groups (tar
shards, row groups of a Parquet file) in an order drawn from (seed, epoch), cuts this sequence of images into windows of
`shuffle_buffer` images, and shuffles each window by (seed, epoch, window). Every image comes exactly once an epoch, the
images of a window lie in a few groups, and the place of any step is known without anything that ran before: a run goes
on in the middle of an epoch by its step alone.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ptft.runtime import derive_seed

_MOST_WINDOWS = 4


@dataclass(frozen=True)
class StreamOrder:
    """An endless stream of training examples in the order of a shuffle buffer; step k takes positions k·B to (k+1)·B.

    Attributes:
        starts: int64 (G + 1,), the row at which each group begins, rows being in the order they lie in the files; the
            last is N.
        batch_size: B, global.
        seed: the run's seed.
        window: images that are shuffled together, at least 1.
    """

    starts: Tensor
    batch_size: int
    seed: int
    window: int
    _windows: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Epochs and rows, int64 (B,) each, of a step counted from 0."""
        count = int(self.starts[-1])
        positions = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = positions // count, positions % count
        rows = torch.empty_like(positions)
        pairs = torch.stack([epochs, places // self.window], dim=1)
        for epoch, window in pairs.unique(dim=0).tolist():
            here = (epochs == epoch) & (places // self.window == window)
            rows[here] = self._window(epoch, window)[places[here] % self.window]
        return epochs, rows

    def _window(self, epoch: int, window: int) -> Tensor:
        """Rows of a window, in the order they come."""
        if (epoch, window) not in self._windows:
            while len(self._windows) >= _MOST_WINDOWS:
                self._windows.pop(next(iter(self._windows)))
            rows = self._sequence(epoch, window * self.window, (window + 1) * self.window)
            generator = torch.Generator().manual_seed(derive_seed("window", self.seed, epoch, window))
            self._windows[epoch, window] = rows[torch.randperm(len(rows), generator=generator)]
        return self._windows[epoch, window]

    def _sequence(self, epoch: int, start: int, stop: int) -> Tensor:
        """Places from start to stop of an epoch's groups, one after the other."""
        starts = self.starts
        generator = torch.Generator().manual_seed(derive_seed("groups", self.seed, epoch))
        groups = torch.randperm(len(starts) - 1, generator=generator)
        ends = (starts[1:] - starts[:-1])[groups].cumsum(0)
        first = int(torch.searchsorted(ends, start, right=True))
        pieces = []
        for number in range(first, len(groups)):
            group, end = int(groups[number]), int(ends[number])
            begin = end - int(starts[group + 1] - starts[group])
            if begin >= stop:
                break
            offset = int(starts[group]) - begin
            pieces.append(torch.arange(max(start, begin) + offset, min(stop, end) + offset))
        return torch.cat(pieces)
