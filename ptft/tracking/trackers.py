"""The trackers of a run from its beginning to its end, whatever that is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from ptft.errors import PtftError, StoppedError, StorageError, UsageError
from ptft.tracking import TrackerName
from ptft.tracking.base import Ending, Line, TrackedRun, Tracker
from ptft.tracking.remote import Remote, Service, first_line
from ptft.tracking.tensorboard import TensorBoard


class Trackers:
    """All trackers of a run as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def go_on(self, lines: Sequence[Line], step: int) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.go_on(lines, step)

    def log(self, line: Line) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.log(line)

    def pause(self) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.pause()

    def end(self, ending: Ending) -> None:
        """See `Tracker`; the second of two endings does not count."""
        trackers, self._trackers = self._trackers, ()
        for tracker in trackers:
            tracker.end(ending)


@contextmanager
def tracked(
    names: Sequence[TrackerName], run: TrackedRun, *, is_new: bool, say: Callable[[str], None]
) -> Iterator[Trackers]:
    """The trackers, which are told when what is inside ends early; a good end is told by `Trackers.end`.

    Args:
        names: as in the config.
        run: what they show.
        is_new: whether nothing of the run is saved yet: then a tracker that cannot be reached ends it, later no more.
        say: for everything said.

    Raises:
        UsageError: a tracker of a new run cannot be reached.
    """
    opened: list[Tracker] = []
    trackers = Trackers(opened)
    try:
        opened += (tracker for name in names if (tracker := _open(name, run, is_new, say)))
        yield trackers
    except BaseException as error:
        with suppress(StorageError):  # what ended the run is what matters
            trackers.end(_early(error))
        raise


def _early(error: BaseException) -> Ending:
    if not isinstance(error, PtftError):
        return Ending("failed", 1, repr(error))
    return Ending("stopped" if isinstance(error, StoppedError) else "failed", error.exit_code, str(error))


def _open(name: TrackerName, run: TrackedRun, is_new: bool, say: Callable[[str], None]) -> Tracker | None:
    """A tracker that has begun; None for one that an older run has to do without."""
    if name == "tensorboard":
        return TensorBoard(run.folder)
    try:
        service = _service(name, run)
        sent = service.begin()
    except StorageError:
        raise
    except Exception as error:
        if is_new:
            raise UsageError(
                f"tracking: {name} cannot be used: {first_line(error)} Nothing was run; see to it, or leave it out."
            ) from error
        say(f"ptft: {name} cannot be used, the run goes on without it: {first_line(error)}")
        return None
    say(f"tracking: {name} {service.place}.")
    return Remote(name, service, sent, say)


def _service(name: TrackerName, run: TrackedRun) -> Service:
    if name == "mlflow":
        from ptft.tracking.mlflow import Mlflow

        return Mlflow(run)
    from ptft.tracking.wandb import Wandb

    return Wandb(run)
