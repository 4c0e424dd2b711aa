"""What racers showed on the images held out, and who won."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptft.race.racers import Racer
from ptft.train.evaluate import Predictions
from ptft.transfer.recipes import RecipeName

_SPREAD = 0.03
_FAVOUR = 0.01


@dataclass(frozen=True)
class Result:
    """A racer's predictions on all folds.

    Attributes:
        right: bool (N,), whether each held-out image was named right, in the same order for every racer; what is not
            finite names nothing.
        loss: mean cross-entropy in nats; infinite or NaN counts as worst.
    """

    right: Tensor
    loss: float

    @classmethod
    def of(cls, folds: list[Predictions]) -> "Result":
        """Of a racer's predictions, fold by fold."""
        logits, labels = torch.cat([fold.logits for fold in folds]), torch.cat([fold.labels for fold in folds])
        loss = torch.nn.functional.cross_entropy(logits.double(), labels).item()
        return cls((logits.argmax(dim=1) == labels) & logits.isfinite().all(dim=1), loss)

    @property
    def top1(self) -> float:
        """Accuracy, in [0, 1]."""
        return self.right.double().mean().item()

    @property
    def rank(self) -> tuple[float, float]:
        """Greater is better: accuracy, then the loss."""
        return self.top1, -self.loss if self.loss == self.loss else float("-inf")


def best_of_each(results: Mapping[Racer, Result]) -> list[Racer]:
    """The best racer of each recipe that takes a learning rate, and the next timider one, if any.

    A short race favours bold learning rates: what a timid one does in more steps, a bold one does in few.
    """
    found: list[Racer] = []
    for recipe in dict.fromkeys(racer.recipe for racer in results if racer.lr is not None):
        racers = sorted((racer for racer in results if racer.recipe == recipe), key=lambda racer: racer.lr or 0)
        best = max(range(len(racers)), key=lambda place: results[racers[place]].rank)
        found += racers[max(best - 1, 0) : best + 1]
    return found


def winner_of(results: Mapping[Racer, Result], *, is_clear: bool) -> Racer:
    """The racer that is expected to be the best, given what it showed and what is known of its recipe beforehand.

    A few dozen images say little, and the best of ten racers on them is mostly the luckiest. So the differences to a
    racer of reference are shrunk as a normal prior has it (Gelman et al. 2013, Bayesian data analysis, section 2.5):
    with a true difference of mean m and standard deviation 3 points, and d observed with standard error s, it is
    (9 d + s² m) / (9 + s²). m is 1 point against random weights, which win only where it is no chance, and 1 point in
    favour of LP-FT, which distorts least and ends where full finetuning ends (Kumar et al. 2022); where labels are few
    and the features clearly good, in favour of the probe, which leaves them as they are. Many images decide alone.

    Args:
        results: of all racers on the same images.
        is_clear: see `Nearness`.
    """
    prior: dict[RecipeName, float] = {"probe" if is_clear else "lp-ft": _FAVOUR, "random": -_FAVOUR}

    def expected(racer: Racer) -> tuple[float, float, tuple[float, float]]:
        favour = prior.get(racer.recipe, 0.0)
        return _gain(results[racer], results[reference], favour - favour_of_reference), favour, results[racer].rank

    reference = max(results, key=lambda racer: (prior.get(racer.recipe, 0.0), results[racer].rank))
    favour_of_reference = prior.get(reference.recipe, 0.0)
    return max(results, key=expected)


def _gain(result: Result, reference: Result, prior: float) -> float:
    """Expected accuracy beyond that of the reference, of which `prior` is the mean beforehand."""
    difference = result.right.double() - reference.right.double()
    square_error = difference.var(correction=0).item() / len(difference)
    return (_SPREAD**2 * difference.mean().item() + square_error * prior) / (_SPREAD**2 + square_error)
