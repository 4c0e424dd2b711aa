"""TensorBoard: event files in the run folder."""

import threading
from collections.abc import Sequence

from torch.utils.tensorboard import SummaryWriter

from ptft.run_folder import RunFolder
from ptft.storage import storage_errors
from ptft.tracking.base import Ending, Line, numbers_of

_DOING = "write TensorBoard events to"


class TensorBoard:
    """Writes a scalar for each number. It lives in the run folder, so what it cannot write ends the run.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.path
        self._writer: SummaryWriter | None = None

    def go_on(self, lines: Sequence[Line], step: int) -> None:
        """Opens another event file, before which events from after `step` do not count.

        Raises:
            StorageError: it cannot be written.
        """
        with storage_errors(self._path, _DOING):
            is_first = not any(self._path.glob("events.*"))
            self._excepthook, threading.excepthook = threading.excepthook, _pass_over_storage
            self._writer = SummaryWriter(str(self._path), purge_step=step + 1 if step else None)
        for line in lines if is_first else ():
            self.log(line)

    def log(self, line: Line) -> None:
        """A scalar for each number; StorageError as `go_on`."""
        if self._writer is not None:
            with storage_errors(self._path, _DOING):
                for key, value in numbers_of(line).items():
                    self._writer.add_scalar(key, value, line["step"])

    def pause(self) -> None:
        """Closes the file; StorageError as `go_on`."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                with storage_errors(self._path, _DOING):
                    writer.close()
            finally:
                threading.excepthook = self._excepthook

    def end(self, ending: Ending) -> None:
        """Nothing: the numbers are all there."""


def _pass_over_storage(told: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread raises its OSError again in our next call; it need not print it first."""
    if not isinstance(told.exc_value, OSError):
        threading.__excepthook__(told)
