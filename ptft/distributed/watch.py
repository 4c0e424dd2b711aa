"""A thread beside each rank that beats, listens for the others, and ends the process when there is no going on."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ptft.distributed.meeting import Peer
from ptft.distributed.place import Place
from ptft.errors import PtftError, RankLostError, error_of

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_BEAT_SECONDS = 1.0
SILENT_SECONDS = 15.0
"""A rank that has not been heard of for so long is lost."""
_WAITING_SECONDS = 5.0
_WORKING_SECONDS = 30.0
_ADVICE = "What was saved last is kept: go on with --resume; `torchrun --max-restarts` does it by itself."


@dataclass(frozen=True)
class Verdict:
    """How a job ends early; the first one published is that of every rank.

    Attributes:
        rank: that published it, and tells it.
        exit_code: of every rank.
        text: the sentence.
    """

    rank: int
    exit_code: int
    text: str

    def error(self) -> PtftError:
        """The error that every rank ends with."""
        error = error_of(self.exit_code, self.text)
        error.told_by = self.rank
        return error


class Watch(threading.Thread):
    """Ends the process within `SILENT_SECONDS` and 30 s of the loss of another rank or of the launcher.

    What runs in the main thread usually ends it earlier, by the error of a sum that a lost rank takes no part in; the
    thread is for one that waits where nothing will come.

    Args:
        store: of this round; a connection of its own, since one that waits would hold up the beat.
        place: of this rank.
        peers: all ranks.
    """

    def __init__(self, store: "Store", place: Place, peers: Sequence[Peer]) -> None:
        super().__init__(name="watch", daemon=True)
        self._store = store
        self._place = place
        self._peers = peers
        others = [rank for rank in range(place.world_size) if rank != place.rank]
        here = peers[place.rank]
        self._near = [rank for rank in others if here.kernel and peers[rank].kernel == here.kernel]
        # All listen to rank 0, which listens to all: every rank to every rank would be too much for the store.
        self._far = others if place.is_first else [0]
        self._heard = {rank: (b"", time.monotonic()) for rank in self._far}
        self._beats = 0
        self._is_over = threading.Event()
        self.is_waiting = False
        self.at_end: Callable[[PtftError], None] = lambda error: None

    def close(self) -> None:
        """From now on the main thread ends the process by itself."""
        self._is_over.set()

    def run(self) -> None:
        """Beats until the job is over."""
        while not self._is_over.wait(_BEAT_SECONDS):
            try:
                verdict = self._look()
            except RuntimeError:
                text = f"the launcher of this job, or its rank 0, is gone. {_ADVICE}"
                verdict = Verdict(self._place.rank, RankLostError.exit_code, text)
            if verdict is not None:
                self._end(verdict)

    def publish(self, verdict: Verdict, store: "Store") -> Verdict:
        """Makes it the verdict of all ranks, unless there is one already, which is returned."""
        told = store.compare_set("verdict", "", json.dumps(asdict(verdict)))
        return Verdict(**json.loads(told))

    def read(self, store: "Store") -> Verdict | None:
        """What was published."""
        return Verdict(**json.loads(store.get("verdict"))) if store.check(["verdict"]) else None

    def _look(self) -> Verdict | None:
        self._beats += 1
        self._store.set(f"beat/{self._place.rank}", str(self._beats))
        lost = self._lost()
        if verdict := self.read(self._store):
            return verdict
        if self._store.check(["end"]) or lost is None:
            return None
        rank, how = lost
        peer = self._peers[rank]
        if rank in self._near:
            _kill_sibling(peer.pid)
        text = f"rank {rank} (process {peer.pid} on {peer.host}) {how}. {_ADVICE}"
        return self.publish(Verdict(self._place.rank, RankLostError.exit_code, text), self._store)

    def _lost(self) -> tuple[int, str] | None:
        """A rank that is gone, and how; None while all are there."""
        for rank in self._near:
            if _process(self._peers[rank].pid)[0] in ("", "Z", "X"):
                return rank, "is gone"
        now = time.monotonic()
        for rank in self._far:
            key = f"beat/{rank}"
            beat = self._store.get(key) if self._store.check([key]) else b""
            if beat != self._heard[rank][0]:
                self._heard[rank] = beat, now
            elif now - self._heard[rank][1] > SILENT_SECONDS:
                return rank, f"has not answered for {SILENT_SECONDS:.0f} s"
        return None

    def _end(self, verdict: Verdict) -> None:
        """Gives the main thread time to end by itself; then ends the process."""
        if self._is_over.wait(_WAITING_SECONDS):
            return
        if not self.is_waiting and self._is_over.wait(_WORKING_SECONDS - _WAITING_SECONDS):
            return
        error = verdict.error()
        self.at_end(error)
        if verdict.rank == self._place.rank:
            os.write(2, f"ptft: {error}\n".encode(errors="backslashreplace"))
        os._exit(error.exit_code)


def _process(pid: int) -> tuple[str, int]:
    """The state of a process, as in /proc/PID/stat, and its parent; an empty state where there is none."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return "", 0
    return state, int(parent)


def _kill_sibling(pid: int) -> None:
    """Ends a rank that is stopped or hangs, if it is the same launcher's: torchrun alone would wait for it."""
    if _process(pid)[1] == os.getppid():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
