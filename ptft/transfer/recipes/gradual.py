"""Gradual unfreezing."""

from collections.abc import Sequence

from ptft.transfer.recipes.base import Recipe

_FIRST = 0.1
_RISE = 0.2


class Gradual(Recipe):
    """Unfreezes from head to stem (Howard & Ruder 2018, "Universal language model fine-tuning", section 3.3).

    A network of L stages is trained in L + 1 phases of equal length: first the head alone, then with the last stage,
    at the end with all. Where theirs is one stage an epoch and then as many epochs as it takes, here the phases share
    the run. In its first phase a stage's learning rate rises from a tenth to the whole over the first fifth, as after
    any cold start; the run's one schedule makes each phase's lower than the one before."""

    summary = "Stages are unfrozen from head to stem, in phases of equal length."

    def trained(self, stages: Sequence[str], done: float) -> Sequence[str]:
        count = min(int(_phase(stages, done)), len(stages))
        return stages[len(stages) - count :]

    def factor(self, stages: Sequence[str], stage: str, done: float) -> float:
        since = _phase(stages, done) - (len(stages) - stages.index(stage))
        return min(1.0, _FIRST + (1 - _FIRST) * max(since, 0.0) / _RISE)


def _phase(stages: Sequence[str], done: float) -> float:
    """Phases completed; a whole number where one begins, in spite of rounding."""
    return done * (len(stages) + 1) + 1e-9
