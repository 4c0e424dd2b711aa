"""How the ranks of a job find each other, also when torchrun starts them again beside what earlier ones left."""

import json
import os
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ptft.distributed.place import Place
from ptft.errors import RankLostError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_MEETING_SECONDS = 600.0
_STORE_SECONDS = 60.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Peer:
    """A rank as the others know it.

    Attributes:
        nonce: of this process alone.
        pid: its process.
        host: name of its machine, for messages.
        kernel: the kernel and the process table that `pid` is of; empty where that cannot be told.
    """

    nonce: str
    pid: int
    host: str
    kernel: str

    @classmethod
    def here(cls) -> "Peer":
        """This process."""
        return cls(uuid.uuid4().hex, os.getpid(), socket.gethostname(), _kernel())


def _kernel() -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def meet(place: Place) -> "tuple[Store, Sequence[Peer]]":
    """Waits for all ranks of the job.

    torchrun's store outlives the ranks: a restarted job meets the words of its earlier processes in it. So rank 0
    names each round of the job, with the processes that it takes to be in it, until each of these has answered.

    Returns:
        The store, under a name of this round, and the ranks in order.

    Raises:
        RankLostError: not all have come within ten minutes, or the launcher is gone.
    """
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=_STORE_SECONDS)))
        own, deadline = Peer.here(), time.monotonic() + _MEETING_SECONDS
        find = _gather if place.is_first else _follow
        name, peers = find(store, place, own, deadline)
    except RuntimeError as error:
        told = str(error).partition("\n")[0]
        raise RankLostError(
            f"the ranks of this job cannot find each other: {told}. Is torchrun still there?"
        ) from error
    return PrefixStore(name, store), peers


def _gather(store: "Store", place: Place, own: Peer, deadline: float) -> tuple[str, Sequence[Peer]]:
    """Rank 0's part."""
    keys = [f"ptft/hello/{rank}" for rank in range(1, place.world_size)]
    greetings: list[bytes] = []
    name, peers = "", [own]
    while time.monotonic() < deadline:
        if store.check(keys):
            found = store.multi_get(keys)
            if found != greetings:
                greetings, name = found, f"ptft/{uuid.uuid4().hex}"
                peers = [own, *(Peer(**json.loads(text)) for text in found)]
                store.set("ptft/round", json.dumps([name, [asdict(peer) for peer in peers]]))
            if store.add(f"{name}/here", 0) == place.world_size - 1:
                store.set(f"{name}/go", "")
                return name, peers
        time.sleep(_POLL_SECONDS)
    raise RankLostError(f"not all of {place.world_size} ranks have come within {_MEETING_SECONDS / 60:.0f} minutes.")


def _follow(store: "Store", place: Place, own: Peer, deadline: float) -> tuple[str, Sequence[Peer]]:
    """The part of every other rank."""
    store.set(f"ptft/hello/{place.rank}", json.dumps(asdict(own)))
    answered = ""
    while time.monotonic() < deadline:
        if store.check(["ptft/round"]):
            name, found = json.loads(store.get("ptft/round"))
            peers = [Peer(**peer) for peer in found]
            if len(peers) == place.world_size and peers[place.rank] == own:
                if name != answered:
                    answered = name
                    store.add(f"{name}/here", 1)
                if store.check([f"{name}/go"]):
                    return name, peers
        time.sleep(_POLL_SECONDS)
    raise RankLostError(f"rank 0 has not come within {_MEETING_SECONDS / 60:.0f} minutes.")
