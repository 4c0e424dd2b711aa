"""What the ranks must know of each other at every step: whether one was asked to stop, and what time it is."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ptft.distributed.ranks import Ranks
from ptft.errors import StoppedError
from ptft.stop import SIGNALS, Stop

if TYPE_CHECKING:
    from torch import Tensor


class Agreement:
    """A few numbers that travel with the loss of each step, so that all ranks stop after the same one.

    They are looked at a step later, when the sum is certainly there: on a GPU a look at once would make the host wait.

    Args:
        ranks: all of them.
        stop: the flag that this rank's signals set.

    Attributes:
        ranks, stop: as given.
    """

    num_words = len(SIGNALS) + 1

    def __init__(self, ranks: Ranks, stop: Stop) -> None:
        self.ranks = ranks
        self.stop = stop
        self._begun: float | None = None
        self._newest: Callable[[], Tensor] | None = None
        self._heard: Sequence[float] = [0.0] * self.num_words

    def words(self) -> list[float]:
        """What this rank has to say; the sums over all ranks go to `hear`."""
        flags = [float(number == self.stop.signum) for number in SIGNALS]
        now = time.monotonic()
        # From the first step on: reading the data and measuring are no training.
        self._begun = now if self._begun is None else self._begun
        return [*flags, now - self._begun if self.ranks.is_first else 0.0]

    def hear(self, words: "Tensor") -> None:
        """Takes in the sums of a step, float (num_words,), of which those of the step before are now looked at."""
        from ptft.runtime import fetched

        if self._newest is not None:
            self._heard = self._newest().tolist()
        self._newest = fetched(words)

    def check(self) -> None:
        """Raises StoppedError when a signal has asked any rank to stop, on all of them after the same step."""
        if self.ranks.is_alone:
            self.stop.check()
            return
        for number, count in zip(SIGNALS, self._heard, strict=False):
            if count:
                raise StoppedError(number, self.stop.folder)

    def clock(self) -> float:
        """Seconds from an arbitrary beginning, the same on all ranks; of many, since rank 0's first step."""
        return time.monotonic() if self.ranks.is_alone else self._heard[-1]
