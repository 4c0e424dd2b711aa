"""Jobs of several ranks: forked ones that find each other as under torchrun, and torchrun itself."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from faults.program import Before, Running, nothing, start
from faults.scene import without_page
from making import Result
from torch.distributed import TCPStore

from ptft import checkpoint
from ptft.distributed.watch import SILENT_SECONDS

BOUND = SILENT_SECONDS + 30
"""Seconds within which everything ends, as the README says."""


def _alone(before: Before) -> None:
    """A process that was started without torchrun."""
    import ptft.cli

    ptft.cli._SECONDS_TO_SPEAK = 0  # no torchrun is there that would end it meanwhile
    without_page()
    before()


def _become(rank: int, size: int, port: int, before: Before) -> None:
    """What torchrun writes into the environment of a rank."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    _alone(before)


@dataclass(frozen=True)
class Job:
    """A command that several ranks run.

    Attributes:
        ranks: in order.
        store: in which they find each other, and which outlives them, as torchrun's does.
    """

    ranks: Sequence[Running]
    store: TCPStore | None = None

    def wait(self, seconds: float = 120) -> list[Result]:
        """How each ended."""
        return [running.wait(seconds) for running in self.ranks]


def start_job(
    size: int, *arguments: str | Path, cwd: Path, before: Before = nothing, broken: dict[int, Before] | None = None
) -> Job:
    """Starts `ptft ARGUMENTS` on so many ranks, one of them without torchrun's words.

    Args:
        size: ranks.
        arguments: of ptft.
        cwd: where.
        before: done by every rank before it starts.
        broken: done by some instead.
    """
    if size == 1:
        return Job([start(*arguments, cwd=cwd, before=partial(_alone, before))])
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    befores = [(broken or {}).get(rank, before) for rank in range(size)]
    return Job(
        [start(*arguments, cwd=cwd, before=partial(_become, r, size, store.port, befores[r])) for r in range(size)],
        store,
    )


def run_job(size: int, *arguments: str | Path, cwd: Path, before: Before = nothing) -> Result:
    """The job from start to end. All ranks end alike, and only rank 0 says anything on stdout."""
    first, *others = start_job(size, *arguments, cwd=cwd, before=before).wait()
    assert [other.code for other in others] == [first.code] * (size - 1), [first, *others]
    assert [other.out for other in others] == [""] * (size - 1)
    return Result(first.code, first.out, first.err + "".join(other.err for other in others))


def weights(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a run's last state."""
    return dict(checkpoint.read(path / "checkpoints" / "last.pt").tensors)


def differing(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that are not the same to the bit."""
    return [name for name in some.keys() | others.keys() if not _same(some.get(name), others.get(name))]


def _same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    return one is not None and other is not None and one.numpy().tobytes() == other.numpy().tobytes()


def largest_difference(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    """Of any weight or statistic."""
    assert some.keys() == others.keys()
    return max((tensor.double() - others[name].double()).abs().max().item() for name, tensor in some.items())


def wait_for(happened: Callable[[], bool], seconds: float = 300) -> None:
    """Until something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def saved_steps(folder: Path) -> list[str]:
    """Names of the numbered checkpoints of a run."""
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*.pt"))


def torchrun(
    *arguments: str | Path, cwd: Path, options: Sequence[str], prefix: Sequence[str] = ()
) -> "subprocess.Popen[str]":
    """Starts `torchrun OPTIONS -m ptft ARGUMENTS`, one thread a rank."""
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "ptft", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [*prefix, *command], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def children(pid: int) -> list[int]:
    """Processes that a process has started and that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


def is_gone(pid: int) -> bool:
    """Whether a process is no more, or waits only for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
