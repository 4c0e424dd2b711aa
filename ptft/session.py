"""One training command in its run folder: new, resumed or already finished; and how it ended, in status.json."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptft.config.load import load
from ptft.config.wording import flatten
from ptft.errors import PtftError, StoppedError, StorageError, UsageError
from ptft.report.console import Console
from ptft.run_folder import RunFolder, RunStatus
from ptft.settings import RunConfig, RunConfigT
from ptft.stop import Stop, stop_on_signals

if TYPE_CHECKING:
    from ptft.report.summary import Summary


@dataclass(frozen=True)
class Session:
    """What a run has around it.

    Attributes:
        folder: the run folder, held by this process.
        console: for everything said.
        stop: the flag that signals set.
        command: as typed, for the summary.
    """

    folder: RunFolder
    console: Console
    stop: Stop
    command: str


def run_in_folder(
    folder: RunFolder,
    config: RunConfigT,
    work: "Callable[[RunConfigT, Session], Summary]",
    *,
    source: Path | None,
    resume: bool,
    console: Console,
    command: str,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Holds the run folder, does the work unless it is done, and records the end.

    Args:
        folder: of the run.
        config: as given now; a run that goes on takes its own, which this one must not contradict.
        work: trains.
        source: the checkpoint of a finetuning; None for pretraining.
        resume: whether to go on with a run that is there.
        console: for everything said.
        command: as typed.
        stop: the flag that signals set already; None to set one up.

    Returns:
        The run's summary, as in summary.json.

    Raises:
        PtftError: any of `ptft.errors`; status.json tells it too.
    """
    with nullcontext(stop) if stop else stop_on_signals() as stop, folder.hold(resume=resume):
        folder.identify("finetune" if source else "pretrain", source)
        if folder.is_started():
            config = _stored(folder, config)
        if finished := folder.finished():
            return finished
        stop.folder = folder.path
        console.log_to(folder.log)
        with _end_recorded(folder, console):
            return work(config, Session(folder, console, stop, command)).as_dict()


@contextmanager
def _end_recorded(folder: RunFolder, console: Console) -> Iterator[None]:
    from ptft.runtime import memory_errors

    try:
        with memory_errors():
            yield
    except PtftError as error:
        console.note(str(error))
        state: RunStatus = "stopped" if isinstance(error, StoppedError) else "failed"
        with suppress(StorageError):  # the disk may be what failed
            folder.write_end(state, error.exit_code, str(error))
        raise
    except Exception as error:
        with suppress(StorageError):
            folder.write_end("failed", 1, repr(error))
        raise
    finally:
        console.close()


def _stored(folder: RunFolder, given: RunConfigT) -> RunConfigT:
    """The config of the run in the folder.

    Raises:
        UsageError: the config given now says something else.
    """
    stored = load(folder.config, type(given))
    if differences := _differences(given, stored):
        listed = "\n".join(f"  {line}" for line in differences)
        raise UsageError(
            f"{folder.path} holds a run of another config:\n{listed}\n"
            "Resume it with its own config, or choose another folder with --out."
        )
    return stored


def _differences(given: RunConfig, stored: RunConfig) -> list[str]:
    """Keys that the given config sets and the run has otherwise; what was left open then is not compared."""
    before, now = flatten(stored.model_dump(mode="json")), flatten(given.model_dump(mode="json"))
    return [
        f"{key}: the run has {before.get(key)!r}, now {value!r}"
        for key, value in now.items()
        if key != "out" and value not in (None, "auto") and before.get(key) != value
    ]
