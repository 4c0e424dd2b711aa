"""Work side by side in processes that live as long as the comparison: each imports torch once."""

import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

import torch

from ptft.allocator import keep_freed_memory
from ptft.errors import OutOfMemoryError, PtftError, StoppedError, error_of
from ptft.runtime import available_memory_bytes, peak_memory_bytes
from ptft.stop import SIGNALS, ignore_signals

Job = Callable[[], None]
"""Something to do; it must be picklable."""

_MEMORY_SHARE = 0.8
_SECONDS_BETWEEN_LOOKS = 0.2
# OpenMP's threads wait by spinning: processes of several threads each take the cores from one another.
THREADS_SIDE_BY_SIDE = 1


class Workers:
    """A pool of processes; use it as a context manager, at whose end none is left.

    With several workers each computes with one thread. The first job runs alone: its peak memory tells how many
    further workers fit.

    Args:
        most: workers at most; 1 lets the one use every core.
        check_stop: called often; raises when a signal asked to stop.
    """

    def __init__(self, most: int, check_stop: Callable[[], None]) -> None:
        self._most = most
        self._check_stop = check_stop
        self._processes: dict[Connection, SpawnProcess] = {}
        self._idle: list[Connection] = []
        self._allowed = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every worker: an idle one at once, one at work after it has saved its state."""
        for connection, process in self._processes.items():
            process.terminate()
            connection.close()  # one that has just missed the signal finds nobody to hand its result to
        for process in self._processes.values():
            process.join()
            process.close()
        self._processes.clear()

    def run(self, jobs: Sequence[Job], done: Callable[[int], None]) -> None:
        """Does all jobs, in any order.

        Args:
            jobs: what to do.
            done: called with the index of each job that is finished.

        Raises:
            PtftError: what a job raised; the others have been told to stop.
            StoppedError: from `check_stop`.
        """
        waiting, at_work = list(enumerate(jobs))[::-1], dict[Connection, int]()
        while waiting or at_work:
            self._check_stop()
            while waiting and (self._idle or len(self._processes) < self._allowed):
                connection = self._idle.pop() if self._idle else self._start()
                index, job = waiting.pop()
                at_work[connection] = index
                with suppress(BrokenPipeError, ConnectionResetError):  # it has ended; told where its answer is awaited
                    connection.send(job)
            for ready in wait(list(at_work), _SECONDS_BETWEEN_LOOKS):
                assert isinstance(ready, Connection)
                self._check_stop()  # a signal to all of us may have ended the worker
                self._receive(ready)
                self._idle.append(ready)
                done(at_work.pop(ready))

    def _start(self) -> Connection:
        ours, theirs = get_context("spawn").Pipe()
        threads = torch.get_num_threads() if self._most == 1 else THREADS_SIDE_BY_SIDE
        process = get_context("spawn").Process(target=_serve, args=(theirs, threads), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def _receive(self, connection: Connection) -> None:
        try:
            outcome = connection.recv()
        except (EOFError, ConnectionResetError):  # reset where it has left the job unread
            process = self._processes[connection]
            process.join()
            raise _ended(process.exitcode) from None
        if isinstance(outcome, _Failure):
            outcome.raise_again()
        self._allowed = min(self._most, len(self._processes) + _num_fitting(outcome))


class _Failure:
    """An error of a job, in a form that any error can be sent in.

    Args:
        error: what the job raised.
    """

    def __init__(self, error: Exception) -> None:
        self._exit_code = error.exit_code if isinstance(error, PtftError) else None
        self._text = str(error) if isinstance(error, PtftError) else "".join(traceback.format_exception(error))

    def raise_again(self) -> None:
        if self._exit_code is None:
            raise RuntimeError(f"in a worker process:\n{self._text}")
        raise error_of(self._exit_code, self._text)


def _ended(exit_code: int | None) -> Exception:
    if exit_code == -signal.SIGKILL:
        return OutOfMemoryError(
            "a worker process was killed, as the kernel does when memory runs out. Lower compare.jobs or "
            "train.batch_size; the same command with --resume goes on."
        )
    if exit_code is not None and -exit_code in SIGNALS:
        return StoppedError(-exit_code)  # sent to all of us, and not here yet
    return RuntimeError(f"a worker process ended by itself with exit code {exit_code}.")


def _num_fitting(peak_bytes: int) -> int:
    return int(_MEMORY_SHARE * available_memory_bytes() / peak_bytes)


def _serve(connection: Connection, num_threads: int) -> None:
    """Does jobs until there are no more; the body of a worker process."""
    # Ctrl-C, and what a batch system sends, reach the whole group of processes; the parent decides and sends SIGTERM.
    ignore_signals()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_freed_memory()
    torch.set_num_threads(num_threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job: Job = connection.recv()
            connection.send(_outcome(job))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _outcome(job: Job) -> "int | _Failure":
    """Peak memory after the job, or its error."""
    try:
        job()
    except Exception as error:
        return _Failure(error)
    return peak_memory_bytes(torch.device("cpu"))


def _end_with_parent() -> None:
    """However the parent ends: a run at work here saves its state, and the process ends."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
