"""Where this process stands among those that torchrun started. Knows no torch."""

import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ptft.errors import UsageError

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Place:
    """One rank of a job.

    Attributes:
        rank: in [0, world_size).
        local_rank: among the ranks of this host; the GPU it takes.
        world_size: ranks of the whole job.
        job: the same after every restart, and for no other job: torchrun's `--rdzv-id`, or which process torchrun is
            where that was not given; None without torchrun.
        keeps_store: whether what the ranks tell each other is kept by rank 0, for want of torchrun.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    job: str | None = None
    keeps_store: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the run folder and speaks."""
        return self.rank == 0


def place() -> Place:
    """What torchrun says in the environment; a single rank where it says nothing.

    Raises:
        UsageError: it says only part of it.
    """
    job = os.environ.get("TORCHELASTIC_RUN_ID")
    job = _launcher() if job == "none" else job  # torchrun's word for a job without a name
    world_size = _number("WORLD_SIZE", 1)
    if world_size == 1 or "RANK" not in os.environ:
        return Place(job=job)
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {world_size}, but {' and '.join(missing)} is not set. Start with "
            f"`torchrun --nproc-per-node {world_size} -m ptft …`, or unset WORLD_SIZE."
        )
    rank = _number("RANK", 0)
    keeps_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return Place(rank, _number("LOCAL_RANK", rank), world_size, job, keeps_store)


def _launcher() -> str:
    """This process's parent, told from one that had the same number before."""
    parent, begun = os.getppid(), ""
    with suppress(OSError, IndexError):
        begun = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    return f"launcher {parent} {begun} on {socket.gethostname()}"


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    if not text.strip():
        return otherwise
    if not text.strip().isdecimal():
        raise UsageError(f"{name} is {text!r} in the environment, where torchrun writes a whole number. Unset it.")
    return int(text)


def speaks_for_host() -> bool:
    """Whether this rank tells what goes wrong before the ranks know of each other; never raises."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def prepare() -> None:
    """What a rank does before it imports torch: it is quiet about lost connections, and ends with its launcher."""
    if "RANK" in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        # A rank that waits for a lost one is ended by our watch, which tells why; NCCL's would abort it before.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
        _end_with_launcher()


def _end_with_launcher() -> None:
    """Has the kernel send SIGTERM to this process when torchrun dies, so that no rank outlives it. On Linux only."""
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
