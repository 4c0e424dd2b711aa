"""Every error a user can cause or meet, each with the exit code that reports it.

::

    PtftError
    ├── UsageError           2   a command or a config that cannot be run
    │   └── ConfigError      2   one or more faults in a config, each with its line
    ├── DataError            3   images or labels that cannot be used
    ├── CheckpointError      4   a checkpoint that cannot be read or trusted
    │   └── TransferError    4   weights that do not fit the model
    ├── StorageError         5   disk full, no permission, I/O error
    ├── NotFiniteError       6   loss or gradient is NaN or infinite
    ├── OutOfMemoryError     7   the machine or the GPU has no memory left
    ├── RankLostError        8   another process of a job with many died or hung
    ├── BusyError           75   another process holds the run folder
    └── StoppedError       128+n   SIGINT, SIGTERM, SIGUSR1 or SIGHUP arrived (130, 143, 138, 129); the state is saved

Only `ptft.cli` prints them. Anything else that escapes is a bug of ours: exit code 1, with a traceback.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class PtftError(Exception):
    """Base of all errors that are reported as a sentence instead of a traceback.

    Attributes:
        told_by: the rank that tells it, once the ranks of a job have agreed on it.
    """

    exit_code: int = 1
    told_by: int | None = None


class UsageError(PtftError):
    """The command cannot be run as given."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Fault:
    """One fault of a config.

    Attributes:
        line: 1-based line in the file; 0 for a fault without a place in it.
        key: dotted key such as `train.batch_size`; empty for a fault of the file itself.
        message: what is wrong and what to do, without place and key.
        place: what stands before the key instead of `file:line`, for example `--set train.lr=abc`.
    """

    line: int
    key: str
    message: str
    place: str = ""


class ConfigError(UsageError):
    """All faults of one config at once, sorted by line.

    Args:
        source: how the config is named in messages, normally its path as the user typed it.
        faults: at least one.
    """

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        self.source = source
        self.faults = sorted(faults)
        super().__init__("\n".join([*map(self._sentence, self.faults), self._summary()]))

    def _sentence(self, fault: Fault) -> str:
        place = fault.place or (f"{self.source}:{fault.line}" if fault.line else self.source)
        return ": ".join(part for part in (place, fault.key, fault.message) if part)

    def _summary(self) -> str:
        count = len(self.faults)
        return f"{count} {'fault' if count == 1 else 'faults'} in {self.source}; nothing was run."


class DataError(PtftError):
    """Images or labels are missing, unreadable or contradictory."""

    exit_code = 3


class CheckpointError(PtftError):
    """A checkpoint is missing, damaged, foreign or does not belong here."""

    exit_code = 4


class TransferError(CheckpointError):
    """Source weights do not fit the target model."""


class StorageError(PtftError):
    """Writing or reading failed: disk full, no permission, I/O error."""

    exit_code = 5


class NotFiniteError(PtftError):
    """Loss or gradient became NaN or infinite."""

    exit_code = 6


class OutOfMemoryError(PtftError):
    """Main memory or GPU memory is exhausted."""

    exit_code = 7


class RankLostError(PtftError):
    """Another process of a job with many died or hung."""

    exit_code = 8


class BusyError(PtftError):
    """Another process holds this run folder."""

    exit_code = 75


class StoppedError(PtftError):
    """A signal asked the run to stop.

    Args:
        signum: SIGINT, SIGTERM, SIGUSR1 or SIGHUP; the exit code is 128 + signum, as shells expect.
        run: the run folder to resume; None when nothing had started.
    """

    def __init__(self, signum: int, run: Path | None = None) -> None:
        self.signum = signum
        self.exit_code = 128 + signum
        name = signal.Signals(signum).name
        advice = f"; the same command with --resume goes on with the run in {run}" if run else ""
        super().__init__(f"stopped by {name}{advice}.")


def error_of(exit_code: int, text: str) -> PtftError:
    """The error that another process has reported by its exit code and its sentence."""
    if exit_code > 128:
        stopped = StoppedError(exit_code - 128)
        stopped.args = (text,)
        return stopped
    kinds = (
        UsageError,
        DataError,
        CheckpointError,
        StorageError,
        NotFiniteError,
        OutOfMemoryError,
        RankLostError,
        BusyError,
    )
    return {kind.exit_code: kind for kind in kinds}.get(exit_code, PtftError)(text)
