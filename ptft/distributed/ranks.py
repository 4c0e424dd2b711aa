"""What the ranks of a job do together: sums, and what rank 0 tells the others. One rank alone does it for nothing."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ptft.distributed.meeting import meet
from ptft.distributed.place import Place
from ptft.distributed.watch import SILENT_SECONDS, Verdict, Watch
from ptft.errors import PtftError, RankLostError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store  # type: ignore[attr-defined]

_COLLECTIVE_MINUTES = 30
"""For a rank that beats and yet takes no part, as one whose disk hangs does."""
_POLL_SECONDS = 0.02
_LEAVING_SECONDS = 5.0


class Ranks:
    """The ranks of a job, seen from one of them.

    All ranks call the same methods in the same order.

    Args:
        place: of this rank.
        store: of this round of the job; None for a rank alone.
        watch: started; None for a rank alone.
    """

    def __init__(self, place: Place, store: "Store | None" = None, watch: Watch | None = None) -> None:
        self.place = place
        self.rank, self.world_size, self.is_first = place.rank, place.world_size, place.is_first
        self._store = store
        self._watch = watch
        self._num_told = 0
        self._is_connected = False
        self._is_finished = False

    @property
    def is_alone(self) -> bool:
        """Whether there are no others."""
        return self._watch is None

    def bounds(self, count: int) -> tuple[int, int]:
        """Start and stop of this rank's share of `count` things in a row; shares differ by one at most."""
        return self.rank * count // self.world_size, (self.rank + 1) * count // self.world_size

    def connect(self) -> None:
        """Begins the process group: gloo on the CPU, NCCL on GPUs."""
        if self._store is None:
            return
        import torch
        from torch import distributed
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with self.waiting():
            distributed.init_process_group(
                backend,
                store=PrefixStore("group", self._store),
                rank=self.rank,
                world_size=self.world_size,
                timeout=timedelta(minutes=_COLLECTIVE_MINUTES),
            )
        self._is_connected = True

    def add_up(self, tensor: "Tensor") -> None:
        """Replaces a tensor by its sum over all ranks, the same to the bit on each; dense, any device."""
        if not self.is_alone:
            from torch import distributed

            with self.waiting():
                distributed.all_reduce(tensor)

    def gather(self, tensor: "Tensor") -> "Sequence[Tensor]":
        """The tensors of all ranks in order; of one shape and contiguous."""
        if self.is_alone:
            return [tensor]
        import torch
        from torch import distributed

        found = [torch.empty_like(tensor) for _ in range(self.world_size)]
        with self.waiting():
            distributed.all_gather(found, tensor)
        return found

    def deal(self, rows: "Tensor", counts: Sequence[int]) -> "Tensor":
        """Gives every rank its part of the rows.

        Args:
            rows: (world_size · n, D), the n rows for rank 0 first.
            counts: n of each rank.

        Returns:
            The rows for this rank, those of rank 0 first.
        """
        from torch import distributed

        received = rows.new_empty(sum(counts), rows.shape[1])
        with self.waiting():
            distributed.all_to_all_single(
                received, rows, list(counts), [len(rows) // self.world_size] * self.world_size
            )
        return received

    def any(self, flag: bool) -> bool:
        """Whether it holds on any rank."""
        if self.is_alone:
            return flag
        import torch

        count = torch.tensor([float(flag)])
        self.add_up(count)
        return bool(count)

    def copy_first(self, tensors: "Mapping[str, Tensor]") -> None:
        """Overwrites tensors, of the same names and shapes everywhere, by those of rank 0."""
        if self.is_alone:
            return
        from torch import distributed

        for name in sorted(tensors):
            tensor = tensors[name].detach()
            plain = tensor.contiguous().clone()
            with self.waiting():
                distributed.broadcast(plain, src=0)
            tensor.copy_(plain)

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What `make` returns on rank 0, on every rank; plain values that JSON can carry.

        The others wait as long as it takes; what `make` raises ends them too.
        """
        if self._store is None or self._watch is None:
            return make()
        key, self._num_told = f"told/{self._num_told}", self._num_told + 1
        if self.is_first:
            found = make()
            self._guarded(lambda store: store.set(key, json.dumps(found)))
            return found
        while not self._guarded(lambda store: store.check([key])):
            if verdict := self._guarded(self._watch.read):
                raise verdict.error()
            time.sleep(_POLL_SECONDS)
        return json.loads(self._guarded(lambda store: store.get(key)))

    def _guarded(self, ask: "Callable[[Store], Any]") -> Any:
        """Asks the store."""
        try:
            return ask(self._store)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise RankLostError(
                "the launcher of this job, or its rank 0, is gone. Start it again with --resume."
            ) from error

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around everything in which ranks wait for each other.

        Raises:
            PtftError: the verdict of all ranks, when one of them did not come because it has ended.
        """
        if self._watch is None:
            yield
            return
        self._watch.is_waiting = True
        try:
            yield
        except RuntimeError as error:
            if _is_of_a_connection(error) and (verdict := self._await_verdict()):
                raise verdict.error() from error
            raise
        finally:
            self._watch.is_waiting = False

    def _await_verdict(self) -> Verdict | None:
        """Why a rank did not come; None when nobody says so within the time in which a loss is noticed."""
        deadline = time.monotonic() + SILENT_SECONDS + 5
        while self._watch is not None and time.monotonic() < deadline:
            verdict: Verdict | None = self._guarded(self._watch.read)
            if verdict is not None:
                return verdict
            time.sleep(_POLL_SECONDS)
        return None

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Around the work: every rank leaves it with the same error, that of the rank which failed first.

        Raises:
            PtftError: that error; its `told_by` is the rank that tells it, None where the launcher is gone.
        """
        try:
            yield
        except Exception as error:
            verdict = self._settle(error)
            if verdict is None:
                raise
            raise verdict from error

    def _settle(self, error: Exception) -> PtftError | None:
        """The error of all ranks; None for `error` itself."""
        if self._watch is None or self._store is None:
            return None
        if isinstance(error, PtftError) and error.told_by is not None:
            self._watch.close()
            return None
        code = error.exit_code if isinstance(error, PtftError) else 1
        text = str(error) if isinstance(error, PtftError) else f"rank {self.rank} met a bug: {error!r}"
        verdict = Verdict(self.rank, code, text)
        try:
            verdict = self._watch.publish(verdict, self._store)
        except RuntimeError:  # the launcher is gone, and its store: nobody can be agreed on
            return None
        finally:
            self._watch.close()
        if verdict.rank != self.rank:
            return verdict.error()
        if isinstance(error, PtftError):
            error.told_by = self.rank
        return None

    def at_end(self, record: Callable[[PtftError], None]) -> None:
        """Has the watch call `record` before it ends the process."""
        if self._watch is not None:
            self._watch.at_end = record

    def finish(self) -> None:
        """The work is done, on every rank."""
        if self._watch is None or self._store is None:
            return
        self.from_first(lambda: True)
        self._guarded(lambda store: store.set("end", ""))
        self._watch.close()
        self._is_finished = True

    def close(self) -> None:
        """Ends the process group; rank 0 leaves last where it keeps the store, in which the others may still look."""
        if self._watch is None or self._store is None:
            return
        self._watch.close()
        if self._is_connected:
            import torch
            from torch import distributed

            self._is_connected = False
            # NCCL takes its connections down together with the other ranks, who do not come after an error.
            if self._is_finished or not torch.cuda.is_available():
                with suppress(RuntimeError):
                    distributed.destroy_process_group()
        deadline = time.monotonic() + _LEAVING_SECONDS
        with suppress(RuntimeError):
            left = self._store.add("left", 1)
            while self.place.keeps_store and self.is_first and left < self.world_size and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                left = self._store.add("left", 0)


def _is_of_a_connection(error: RuntimeError) -> bool:
    """Whether it says that another rank did not answer; gloo has no class of its own for that."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo" in str(error).lower()


ALONE = Ranks(Place())
"""A process that was started without torchrun."""


def join(place: Place) -> Ranks:
    """The ranks of the job that this process is one of; waits for all of them.

    Raises:
        RankLostError: they do not come.
    """
    if place.world_size == 1:
        return Ranks(place)
    store, peers = meet(place)
    watch = Watch(store.clone(), place, peers)
    watch.start()
    return Ranks(place, store, watch)
