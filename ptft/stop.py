"""SIGINT and SIGTERM as a flag that a run looks at between steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ptft.errors import StoppedError


class Stop:
    """Remembers the first signal that asked to stop.

    Attributes:
        folder: the run folder named in the message; set when the run has one.
    """

    def __init__(self) -> None:
        self._signum = 0
        self.folder: Path | None = None

    def check(self) -> None:
        """Raises StoppedError when a signal has arrived, again at every call."""
        if self._signum:
            raise StoppedError(self._signum, self.folder)

    def _receive(self, signum: int, _frame: FrameType | None) -> None:
        self._signum = self._signum or signum


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """While inside, SIGINT and SIGTERM only set the flag; a second signal changes nothing."""
    stop = Stop()
    before = {number: signal.signal(number, stop._receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
