"""What racers showed on the images held out, and who won."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ptft.data.task import Task
from ptft.race.racers import PROBE, Racer
from ptft.tasks import TaskConfig
from ptft.train.evaluate import Predictions


@dataclass(frozen=True)
class Result:
    """What a racer's predictions on all folds are worth.

    Attributes:
        merits: float64 (G,), see `TaskConfig.merits`: of one class an image, whether each held-out image was named
            right. Of the same images in the same order for every racer.
        loss: mean over the images, as the task has it; infinite or NaN counts as worst.
        told: the task's score of them: `71.2 %`, `mAP 71.2 %`, `R² 0.731`.
        num_images: held out.
    """

    merits: Tensor
    loss: float
    told: str
    num_images: int

    @classmethod
    def of(cls, task: TaskConfig, target: Task, folds: Sequence[Predictions]) -> "Result":
        """Of a racer's predictions, fold by fold."""
        logits, labels = torch.cat([fold.logits for fold in folds]), torch.cat([fold.labels for fold in folds])
        tally = task.tally(target.classes, target.scale, logits.device)
        tally.add(logits, labels)
        scores = tally.scores()
        told = scores.short() if logits.isfinite().all() else "not finite"
        return cls(task.merits(logits, labels, target.scale), scores.loss, told, len(labels))

    @property
    def merit(self) -> float:
        """Accuracy, mAP or R², or near it."""
        return self.merits.mean().item()

    @property
    def rank(self) -> tuple[float, float]:
        """Greater is better: merit, then the loss."""
        return self.merit, -self.loss if self.loss == self.loss else float("-inf")


def best_of_each(results: Mapping[Racer, Result]) -> list[Racer]:
    """The racers of each recipe at its best learning rate, and at the next timider one, if any.

    A short race favours bold learning rates: what a timid one does in more steps, a bold one does in few.
    """
    found: list[Racer] = []
    for recipe in dict.fromkeys(racer.recipe for racer in results if racer.lr is not None):
        racers = [racer for racer in results if racer.recipe == recipe]
        lrs = sorted({racer.lr for racer in racers if racer.lr is not None})
        best = lrs.index(max(racers, key=lambda racer: results[racer].rank).lr or 0)
        found += [racer for racer in racers if racer.lr in lrs[max(best - 1, 0) : best + 1]]
    return found


def winner_of(results: Mapping[Racer, Result], *, is_clear: bool, deviation: float) -> Racer:
    """The racer that is expected to be the best, given what it showed and what is known of its recipe beforehand.

    A few dozen images say little, and the best of ten racers on them is mostly the luckiest. So the differences to a
    racer of reference are shrunk as a normal prior has it (Gelman et al. 2013, Bayesian data analysis, section 2.5):
    with a true difference of mean m and standard deviation t, and d observed with standard error s, it is
    (t² d + s² m) / (t² + s²). m is t / 3 (1 point of accuracy) against random weights, which win only where it is no
    chance, and as much in favour of LP-FT, which distorts least and ends where full finetuning ends (Kumar et al.
    2022); where labels are few and the features clearly good, in favour of LP-FT drawn back half the way (Wortsman et
    al. 2022), which was better there than both its ends (halves of CIFAR-10's classes, 5 and 20 labels a class, three
    draws each), or of the probe where that does not race. Many images decide alone.

    Args:
        results: of all racers on the same images.
        is_clear: see `Nearness`.
        deviation: t, see `TaskConfig`.
    """
    favoured = _favoured(results, is_clear)
    favours = {racer: deviation / 3 * ((racer in favoured) - (racer.recipe == "random")) for racer in results}
    reference = max(results, key=lambda racer: (favours[racer], results[racer].rank))

    def expected(racer: Racer) -> tuple[float, float, tuple[float, float]]:
        prior = favours[racer] - favours[reference]
        return _gain(results[racer], results[reference], prior, deviation), favours[racer], results[racer].rank

    return max(results, key=expected)


def _favoured(racers: Collection[Racer], is_clear: bool) -> list[Racer]:
    """Those that are expected to be better than others before any has run."""
    shares = {racer.share for racer in racers if racer.recipe == "lp-ft"}
    if is_clear and not any(share < 1 for share in shares):
        return [racer for racer in racers if racer == PROBE]
    wanted = (min if is_clear else max)(shares, default=1.0)
    return [racer for racer in racers if racer.recipe == "lp-ft" and racer.share == wanted]


def _gain(result: Result, reference: Result, prior: float, deviation: float) -> float:
    """Expected merit beyond that of the reference, of which `prior` is the mean beforehand."""
    difference = result.merits - reference.merits
    square_error = difference.var(correction=0).item() / len(difference)
    return (deviation**2 * difference.mean().item() + square_error * prior) / (deviation**2 + square_error)
