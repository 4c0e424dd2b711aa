"""What racers showed on the images held out, and who won."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptft.race.racers import Racer
from ptft.train.evaluate import Predictions


@dataclass(frozen=True)
class Result:
    """A racer's predictions on all folds.

    Attributes:
        right: bool (N,), whether each held-out image was named right, in the same order for every racer.
        loss: mean cross-entropy in nats; infinite or NaN counts as worst.
    """

    right: Tensor
    loss: float

    @classmethod
    def of(cls, folds: list[Predictions]) -> "Result":
        """Of a racer's predictions, fold by fold."""
        logits, labels = torch.cat([fold.logits for fold in folds]), torch.cat([fold.labels for fold in folds])
        loss = torch.nn.functional.cross_entropy(logits.double(), labels).item()
        return cls(logits.argmax(dim=1) == labels, loss)

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


def winner_of(results: Mapping[Racer, Result]) -> Racer:
    """The best; random weights only where they are better than the best of the source's by more than chance.

    That is: by more than one standard error of the mean difference over the held-out images, both racers having named
    the same ones.
    """
    ours = [racer for racer in results if racer.recipe != "random"]
    others = [racer for racer in results if racer.recipe == "random"]
    best = max(ours or others, key=lambda racer: results[racer].rank)
    for racer in sorted(others, key=lambda racer: results[racer].rank, reverse=True)[:1]:
        gain = results[racer].right.double() - results[best].right.double()
        if racer != best and gain.mean() > gain.std(correction=0) / len(gain) ** 0.5:
            return racer
    return best
