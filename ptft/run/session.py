"""One training command in its run folder: new, resumed or already finished; and how it ended, in status.json."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptft.config.load import load
from ptft.data.cache import USUAL_CACHE, CacheOptions
from ptft.distributed.agreement import Agreement
from ptft.distributed.place import Place, place
from ptft.distributed.ranks import Ranks, join
from ptft.errors import PtftError, StoppedError, StorageError, UsageError
from ptft.report.console import Console
from ptft.run.drift import MAY_CHANGE, ConfigDrift, check_listing, compare_configs
from ptft.run.surroundings import Surroundings
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
        folder: the run folder, held by this process or, of many ranks, by rank 0.
        console: for everything said.
        stop: the flag that signals set.
        command: as typed, for the summary.
        ranks: that do the run together.
        agreement: of the ranks, on when to stop.
        cache: what the command line says about it.
    """

    folder: RunFolder
    console: Console
    stop: Stop
    command: str
    ranks: Ranks
    agreement: Agreement
    cache: CacheOptions = USUAL_CACHE

    def surroundings(self) -> Surroundings:
        """For the work itself, with the cache open."""
        return Surroundings(self.console, self.cache.open(self.console.say), self.agreement)


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

    Of many ranks, rank 0 alone holds and writes the folder and decides what is to be done; all end alike.

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
    with closing(join(place())) as ranks, ranks.settled(), _held(folder, source, resume, ranks):
        drift, agreed = ConfigDrift(), config
        if ranks.is_first and folder.is_started():
            drift, agreed = _agreed(folder, config)
        decided = ranks.from_first(
            lambda: {
                "config": agreed.model_dump(mode="json"),
                "finished": None if drift.prolongs else _finished(folder, agreed, drift),
            }
        )
        if decided["finished"]:
            ranks.finish()
            finished: dict[str, Any] = decided["finished"]
            return finished
        import ptft.run.training  # noqa: F401 (takes seconds, in which a signal can still end the process at once)

        config = agreed if ranks.is_first else type(config).model_validate(decided["config"], context={"stored": True})
        with nullcontext(stop) if stop else stop_on_signals() as stop:
            stop.folder = folder.path
            _open_log(folder, console, drift.accepted, ranks)
            with end_recorded(folder if ranks.is_first else None, console), _together(folder, ranks):
                if ranks.is_first:
                    folder.write_begin()
                session = Session(folder, console, stop, command, ranks, Agreement(ranks, stop), cache)
                return work(config, session).as_dict()


@contextmanager
def _held(folder: RunFolder, source: Origin | None, resume: bool, ranks: Ranks) -> Iterator[None]:
    """The folder held, as far as this rank is the one to hold it."""
    if not ranks.is_first:
        yield
        return
    with folder.hold(resume=resume or _goes_on(folder, ranks.place)):
        folder.identify(*(("finetune", source) if source else ("pretrain",)))
        folder.sign(ranks.world_size, ranks.place.job)
        with storage_errors(folder.checkpoints, "create"):
            folder.checkpoints.mkdir(exist_ok=True)
        yield


def _goes_on(folder: RunFolder, place: Place) -> bool:
    """Whether torchrun has started this job anew, after a failure or with other hosts: it need not be told --resume.

    A restart alone says nothing: a job that was refused another run's folder is started again, too.
    """
    return place.job is not None and folder.read_status().get("job") == place.job


def _open_log(folder: RunFolder, console: Console, changes: Sequence[str], ranks: Ranks) -> None:
    if not ranks.is_first:
        return
    console.log_to(folder.log)
    if changes:
        console.note("config.yaml until now:\n" + folder.config.read_text(encoding="utf-8"))
        console.say("the run goes on with another config:\n" + "\n".join(f"  {line}" for line in changes))


@contextmanager
def _together(folder: RunFolder, ranks: Ranks) -> Iterator[None]:
    """The ranks connected for the work inside, which they end alike."""

    def record(error: PtftError) -> None:
        """For rank 0, whose main thread hangs, or for the rank that tells, when rank 0 is dead and its lock free."""
        if ranks.is_first or error.told_by == ranks.rank:
            with suppress(PtftError), nullcontext() if ranks.is_first else folder.hold(resume=True):
                folder.write_end("failed", error.exit_code, str(error))

    ranks.at_end(record)
    try:
        with ranks.settled():
            ranks.connect()
            yield
            ranks.finish()
    except PtftError as error:
        if not ranks.is_first:
            record(error)
        raise


@contextmanager
def end_recorded(folder: RunFolder | None, console: Console) -> Iterator[None]:
    """Writes into status.json and log.txt how the work inside ended early, if it did; None has no such files."""
    from ptft.runtime import memory_errors

    def record(state: RunStatus, exit_code: int, reason: str) -> None:
        with suppress(StorageError):  # the disk may be what failed
            if folder is not None:
                folder.write_end(state, exit_code, reason)

    try:
        with machine_errors(), memory_errors():
            yield
    except PtftError as error:
        console.note(str(error))
        record("stopped" if isinstance(error, StoppedError) else "failed", error.exit_code, str(error))
        raise
    except Exception as error:
        record("failed", 1, repr(error))
        raise
    finally:
        console.close()


def _agreed(folder: RunFolder, given: RunConfigT) -> tuple[ConfigDrift, RunConfigT]:
    """What has changed since the run in the folder began, and the config to go on with.

    Raises:
        UsageError: the config given now contradicts that of the run.
    """
    drift, config = compare_configs(load(folder.config, type(given), stored=True), given)
    if drift.refused:
        listed = "\n".join(f"  {line}" for line in drift.refused)
        raise UsageError(
            f"{folder.path} holds a run of another config:\n{listed}\n"
            "Resume it with its own config, or choose another folder with --out. What may change: "
            f"{', '.join(MAY_CHANGE)}."
        )
    return drift, config


def _finished(folder: RunFolder, config: RunConfigT, drift: ConfigDrift) -> dict[str, Any] | None:
    """The summary of a run that is done; None where it is not.

    Raises:
        DataError: the images lie elsewhere now, and are not those of the run.
        CheckpointError: the final checkpoint is gone or damaged.
    """
    summary = folder.finished()
    if summary is not None and drift.moves_data:
        from ptft import checkpoint

        check_listing(checkpoint.read(Path(summary["checkpoint"])).metadata, config)
    return summary
