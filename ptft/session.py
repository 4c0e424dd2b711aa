"""One training command in its run folder: new, resumed or already finished; and how it ended, in status.json."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptft.config.load import load
from ptft.data.cache import USUAL_CACHE, CacheOptions
from ptft.drift import MAY_CHANGE, compare_configs
from ptft.errors import PtftError, StoppedError, StorageError, UsageError
from ptft.report.console import Console
from ptft.run_folder import RunFolder, RunStatus
from ptft.settings import RunConfigT
from ptft.stop import Stop, stop_on_signals
from ptft.storage import machine_errors, storage_errors
from ptft.transfer.origin import Origin

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
        cache: what the command line says about it.
    """

    folder: RunFolder
    console: Console
    stop: Stop
    command: str
    cache: CacheOptions = USUAL_CACHE


def run_in_folder(
    folder: RunFolder,
    config: RunConfigT,
    work: "Callable[[RunConfigT, Session], Summary]",
    *,
    source: Origin | None,
    resume: bool,
    console: Console,
    command: str,
    stop: Stop | None = None,
    cache: CacheOptions = USUAL_CACHE,
) -> dict[str, Any]:
    """Holds the run folder, does the work unless it is done, and records the end.

    Args:
        folder: of the run.
        config: as given now; a run that goes on takes its own, which this one must not contradict.
        work: trains.
        source: what a finetuning starts from, a file or a name; None for pretraining.
        resume: whether to go on with a run that is there.
        console: for everything said.
        command: as typed.
        stop: the flag that signals set already; None to set one up.
        cache: what the command line says about it.

    Returns:
        The run's summary, as in summary.json.

    Raises:
        PtftError: any of `ptft.errors`; status.json tells it too.
    """
    with folder.hold(resume=resume):
        folder.identify(*(("finetune", source) if source else ("pretrain",)))
        with storage_errors(folder.checkpoints, "create"):
            folder.checkpoints.mkdir(exist_ok=True)
        changes: tuple[str, ...] = ()
        prolongs = False
        if folder.is_started():
            config, changes, prolongs = _agreed(folder, config)
        if not prolongs and (finished := folder.finished()):
            return finished
        import ptft.run  # noqa: F401 (takes seconds, in which a signal can still end the process at once)

        with nullcontext(stop) if stop else stop_on_signals() as stop:
            stop.folder = folder.path
            console.log_to(folder.log)
            if changes:
                console.note("config.yaml until now:\n" + folder.config.read_text(encoding="utf-8"))
                console.say("the run goes on with another config:\n" + "\n".join(f"  {line}" for line in changes))
            with end_recorded(folder, console):
                return work(config, Session(folder, console, stop, command, cache)).as_dict()


@contextmanager
def end_recorded(folder: RunFolder, console: Console) -> Iterator[None]:
    """Writes into status.json and log.txt how the work inside ended early, if it did."""
    from ptft.runtime import memory_errors

    try:
        with machine_errors(), memory_errors():
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


def _agreed(folder: RunFolder, given: RunConfigT) -> tuple[RunConfigT, tuple[str, ...], bool]:
    """The config to go on with, what it changes in a sentence each, and whether a finished run goes on with it.

    Raises:
        UsageError: the config given now contradicts that of the run.
    """
    drift, config = compare_configs(load(folder.config, type(given)), given)
    if drift.refused:
        listed = "\n".join(f"  {line}" for line in drift.refused)
        raise UsageError(
            f"{folder.path} holds a run of another config:\n{listed}\n"
            "Resume it with its own config, or choose another folder with --out. What may change: "
            f"{', '.join(MAY_CHANGE)}."
        )
    return config, drift.accepted, drift.prolongs
