"""A service elsewhere that is slow: what waits for it goes there at once."""

import threading
from collections.abc import Sequence

from ptft.tracking.base import Ending, StepNumbers
from ptft.tracking.remote import Remote


class Slow:
    """Answers its first request only when it is let go."""

    place = "nowhere"

    def __init__(self) -> None:
        self.requests: list[list[StepNumbers]] = []
        self.ending: Ending | None = None
        self.is_asked = threading.Event()
        self.may_answer = threading.Event()

    def begin(self) -> dict[str, int]:
        return {}

    def log(self, points: Sequence[StepNumbers]) -> None:
        self.requests.append(list(points))
        self.is_asked.set()
        assert self.may_answer.wait(60)

    def end(self, ending: Ending) -> None:
        self.ending = ending


def test_what_waits_for_a_slow_service_is_one_request() -> None:
    service, said = Slow(), list[str]()
    remote = Remote("slow", service, {}, said.append)
    remote.log({"step": 0, "epoch": 0, "loss": 1.0})
    assert service.is_asked.wait(60)
    for step in range(1, 500):
        remote.log({"step": step, "epoch": 0, "loss": 1.0 / step})
    service.may_answer.set()
    ending = Ending("done", 0, "")
    remote.end(ending)
    assert said == []
    assert service.ending == ending
    assert service.requests == [[(0, {"loss": 1.0})], [(step, {"loss": 1.0 / step}) for step in range(1, 500)]]
