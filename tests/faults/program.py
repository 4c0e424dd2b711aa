"""ptft in processes of its own, forked from one that has imported everything once: a start costs no import."""

import gc
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from making import Result
from scripts.quick import MODULES

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([*MODULES])
_NUMBERS = itertools.count()

Before = Callable[[], None]
"""What a process does to itself before ptft starts: limits, or a mechanism broken for a negative control."""


def nothing() -> None:
    """An unharmed process."""


@dataclass(frozen=True)
class Running:
    """A started ptft.

    Attributes:
        process: forked, running `ptft.cli.main`.
        out, err: files that its stdout and stderr go to.
    """

    process: BaseProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def is_alive(self) -> bool:
        return self.process.is_alive()

    def send(self, signum: int) -> None:
        """A signal, unless the process has ended."""
        if self.process.is_alive():
            os.kill(self.pid, signum)

    def wait(self, seconds: float = 120) -> Result:
        """Exit code (minus the signal that killed it), stdout and stderr."""
        self.process.join(seconds)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"ptft did not end within {seconds} s: {self.err.read_text()}")
        return Result(code, self.out.read_text(), self.err.read_text())


def start(*arguments: str | Path, cwd: Path, before: Before = nothing) -> Running:
    """Starts `ptft ARGUMENTS`; returns when its process has begun."""
    number = next(_NUMBERS)
    out, err = cwd / f"{number}.out", cwd / f"{number}.err"
    for path in (out, err):
        path.touch()
    process = _CONTEXT.Process(target=_main, args=([*map(str, arguments)], cwd, out, err, before))
    process.start()
    return Running(process, out, err)


def run(*arguments: str | Path, cwd: Path, before: Before = nothing) -> Result:
    """`ptft ARGUMENTS` from start to end."""
    return start(*arguments, cwd=cwd, before=before).wait()


def _main(arguments: list[str], cwd: Path, out: Path, err: Path, before: Before) -> None:
    import torch

    from ptft.cli import main

    gc.freeze()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.chdir(cwd)
    for path, number in ((out, 1), (err, 2)):
        descriptor = os.open(path, os.O_WRONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = ["ptft", *arguments]
    before()
    main()
