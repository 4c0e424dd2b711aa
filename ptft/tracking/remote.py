"""A tracker that is elsewhere and may be slow, or gone: it never makes the run wait, and never ends it."""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Protocol

from ptft.tracking.base import Ending, Line, StepNumbers, numbers_of

_SECONDS_TO_END = 20.0


class Service(Protocol):
    """What sends numbers away. An exception of any method means that it cannot be used any more."""

    @property
    def place(self) -> str:
        """Where the run is to be seen, without passwords."""
        ...

    def begin(self) -> dict[str, int]:
        """Contacts it and creates the run, or goes on with it; the last step that it has of each number."""
        ...

    def log(self, points: Sequence[StepNumbers]) -> None:
        """Sends numbers, at once where it can: a backlog of hours must not take hours."""
        ...

    def end(self, ending: Ending) -> None:
        """Sends how the run ended."""
        ...


class Remote:
    """Hands a run's numbers to a service in a thread of its own, each number of a step once.

    Lines that are already there are not sent again, and those that are not, are: after a crash, or a time without the
    service, the next session sends what is missing. What a run did over again after going back stays as it was first.

    Args:
        name: of the service, in sentences.
        service: that has begun.
        sent: the last step that it has of each number.
        say: for the one sentence about a failure.
    """

    def __init__(self, name: str, service: Service, sent: dict[str, int], say: Callable[[str], None]) -> None:
        self._name = name
        self._service = service
        self._sent = sent
        self._say = say
        self._failure: Exception | None = None
        self._is_given_up = False
        self._waiting: SimpleQueue[StepNumbers | Ending] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def go_on(self, lines: Sequence[Line], step: int) -> None:
        """Sends what the service lacks of these lines."""
        for line in lines:
            self.log(line)

    def log(self, line: Line) -> None:
        """Sends the numbers of a line that the service does not have."""
        step: int = line["step"]
        known = _named(numbers_of(line))
        numbers = {key: value for key, value in known.items() if step > self._sent.get(key, -1)}
        self._sent.update(dict.fromkeys(numbers, step))
        self._tell_failure()
        if numbers and not self._is_given_up:
            self._waiting.put((step, numbers))

    def pause(self) -> None:
        """Nothing: what is on its way arrives."""

    def end(self, ending: Ending) -> None:
        """Sends how the run ended, and waits a while until all has arrived."""
        self._waiting.put(replace(ending, scores=_named(ending.scores)))
        self._thread.join(_SECONDS_TO_END)
        if self._thread.is_alive():
            self._failure = self._failure or TimeoutError(f"no answer within {_SECONDS_TO_END:.0f} s")
        self._tell_failure()

    def _work(self) -> None:
        ending = None
        while ending is None:
            points, ending = self._taken()
            if self._failure is None:
                try:
                    self._send(points, ending)
                except Exception as error:
                    self._failure = error

    def _taken(self) -> tuple[list[StepNumbers], Ending | None]:
        """All that waits, at least one thing; the ending is the last there is."""
        points: list[StepNumbers] = []
        taken = self._waiting.get()
        while not isinstance(taken, Ending):
            points.append(taken)
            try:
                taken = self._waiting.get_nowait()
            except Empty:
                return points, None
        return points, taken

    def _send(self, points: list[StepNumbers], ending: Ending | None) -> None:
        if points:
            self._service.log(points)
        if ending is not None:
            self._service.end(ending)

    def _tell_failure(self) -> None:
        """Once, and from the thread of the run: two would speak into each other's lines."""
        if self._failure is not None and not self._is_given_up:
            self._is_given_up = True
            self._say(
                f"ptft: {self._name} failed and gets no more of this run: {first_line(self._failure)} "
                "The run goes on; metrics.jsonl has every number."
            )


def _named(numbers: Mapping[str, float]) -> dict[str, float]:
    """With names that every service takes; a target of a regression may be called anything."""
    return {re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII): value for name, value in numbers.items()}


def first_line(error: Exception) -> str:
    """What an exception of a stranger's library says, on one line that ends with a full stop."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].strip()
    line = line if len(line) <= 300 else line[:299] + "…"
    return line if line.endswith((".", "!", "…")) else line + "."
