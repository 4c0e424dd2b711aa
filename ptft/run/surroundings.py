"""What the work of a run has around it, whatever the run is: who is told, who else works, what is kept."""

from dataclasses import dataclass, field, replace
from typing import Self

from ptft.data.cache import USUAL_CACHE, Cache, CacheOptions
from ptft.distributed.agreement import Agreement
from ptft.distributed.ranks import ALONE, Ranks
from ptft.report.console import Console
from ptft.stop import Stop


@dataclass(frozen=True)
class Surroundings:
    """What every step of preparing and training a run may need.

    Attributes:
        console: for what was found and decided.
        cache: for decoded images and measured speeds; None for none.
        agreement: of all ranks of the run, on when to stop; it has the flag that signals set.
    """

    console: Console
    cache: Cache | None = None
    agreement: Agreement = field(default_factory=lambda: Agreement(ALONE, Stop()))

    @classmethod
    def of(cls, console: Console, cache: CacheOptions = USUAL_CACHE) -> Self:
        """For a process by itself that no signal asks to stop."""
        return cls(console, cache.open(console.say))

    @property
    def ranks(self) -> Ranks:
        """That do the run together."""
        return self.agreement.ranks

    def check_stop(self) -> None:
        """Raises StoppedError when a signal asked to stop."""
        self.agreement.stop.check()

    def alone(self) -> Self:
        """For work that one rank does by itself."""
        return replace(self, agreement=Agreement(ALONE, self.agreement.stop))
