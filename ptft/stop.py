"""Signals that ask to stop: the end of a command at once, or a flag that a run looks at between steps."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ptft.distributed.place import speaks_for_host
from ptft.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""All of them; the last comes when a terminal or connection is gone."""
# Under nohup a lost terminal is no reason to stop.
_HEARD = SIGNALS[:-1] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else SIGNALS


class Stop:
    """Remembers the first signal that asked to stop.

    Attributes:
        folder: the run folder named in the message; set when the run has one.
        signum: 0 until then.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.folder: Path | None = None

    def check(self) -> None:
        """Raises StoppedError when a signal has arrived, again at every call."""
        if self.signum:
            raise StoppedError(self.signum, self.folder)

    def _receive(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = self.signum or signum


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """While inside, the signals only set the flag; a second one changes nothing, neither here nor on the way out."""
    stop = Stop()
    before = {number: signal.signal(number, stop._receive) for number in _HEARD}
    try:
        yield stop
    except StoppedError:
        ignore_signals()
        raise
    except BaseException:
        _restore(before)
        raise
    _restore(before)


def _restore(handlers: "dict[signal.Signals, signal._HANDLER]") -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def end_on_signals() -> None:
    """From now on a signal ends the process at once, with its sentence and exit code: nothing is there to be saved.

    No exception does this: raised inside an import it can be swallowed, or printed as a traceback.
    """
    for number in _HEARD:
        signal.signal(number, _end)


def ignore_signals() -> None:
    """From now on signals change nothing: the process is about to end with an exit code that is decided."""
    for number in _HEARD:
        signal.signal(number, signal.SIG_IGN)


def _end(signum: int, _frame: FrameType | None) -> None:
    stopped = StoppedError(signum)
    if speaks_for_host():
        os.write(2, f"ptft: {stopped}\n".encode())
    os._exit(stopped.exit_code)
