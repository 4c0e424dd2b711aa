"""The head solved on the features of the backbone as it stands: all of a probe, the beginning of LP-FT."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ptft.data.batches import Batch
from ptft.data.folds import stratified_folds
from ptft.data.task import Examples, Task
from ptft.distributed.ranks import ALONE, Ranks
from ptft.models.classifier import Classifier
from ptft.objectives.base import BatchLoss
from ptft.runtime import Precision, derive_seed
from ptft.train.evaluate import features_of
from ptft.train.linear import LinearFit, Loss, fit_linear
from ptft.train.state import State

PENALTIES = tuple(10 ** (1 - place / 2) for place in range(15))
"""Of the L2 penalty on standardised features, strongest first: 10 to 1e-6."""
_ENOUGH_VALIDATION = 200
_NUM_FOLDS = 5
_PATIENCE = 2
# Of the gradient. The grid compares penalties, whose scores differ far more than this leaves open.
_ROUGHLY = 3e-4
_CLOSELY = 1e-5


@dataclass(frozen=True)
class HeadSolver:
    """Solves the head; as a step of the loop it is the only one of a probe.

    Attributes:
        task: its training part is fitted; a validation part of at least 200 images chooses the penalty.
        objective: its class weights and smoothing are kept; images are not mixed.
        device: of the model; the fit itself runs on the CPU in float64.
        precision: of the features.
        memory_format: of model and images.
        seed: the run's, for the folds.
        balanced: every class counts the same, as under train.sampling: balanced.
        say: told what was chosen.
        check_stop: called often; raises when a signal asked to stop.
        ranks: that compute the features together; each then solves the same.
    """

    task: Task
    objective: BatchLoss
    device: torch.device
    precision: Precision
    memory_format: torch.memory_format
    seed: int
    balanced: bool
    say: Callable[[str], None]
    check_stop: Callable[[], None] = lambda: None
    ranks: Ranks = ALONE

    def step(self, state: State, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
        """As `solve` for the model of `state`; every training image counts, whatever `batch`, and `lr` is not used."""
        return self.solve(state.model)

    def solve(self, classifier: Classifier) -> tuple[Tensor, Tensor]:
        """Puts the solution into the head, whatever was there before.

        Args:
            classifier: its head is changed, unless the solution is not finite.

        Returns:
            Mean loss of the training images and the gradient norm of the whole objective, float64 scalars.
        """
        mean, turn, rows = standardized(self._features(classifier, self.task.train))
        targets = self._targets(self.task.train)
        splits, judge = self._splits(classifier, rows, mean, turn, targets)
        penalty, start = choose_penalty(splits, self.objective.unmixed_loss, self.check_stop)
        loss = self.objective.unmixed_loss
        found = fit_linear(rows, targets, loss, penalty, start, _CLOSELY, self.check_stop)
        self.say(
            f"head solved on the features of {len(rows):,} images: L2 penalty {penalty:.2g} of {len(PENALTIES)} tried, "
            f"chosen by {judge}."
        )
        weight = found.weight @ turn.T
        bias = found.bias - weight @ mean
        if weight.isfinite().all() and bias.isfinite().all():
            with torch.no_grad():
                classifier.head.weight.copy_(weight)
                classifier.head.bias.copy_(bias)
        return torch.tensor(found.loss), torch.tensor(found.grad_norm)

    def _features(self, classifier: Classifier, examples: Examples) -> Tensor:
        """Float64 (N, D) on the CPU."""
        format_ = self.task.format
        features = features_of(classifier, examples, format_, self.device, self.precision, self.check_stop, self.ranks)
        return features.cpu().double()

    def _targets(self, examples: Examples) -> Tensor:
        """What the objective compares with, float64 (N, K)."""
        targets = self.objective.targets(examples.labels, len(self.task.classes))
        if not self.balanced:
            return targets
        counts = torch.tensor(self.task.class_counts("train"), dtype=torch.float64)
        return targets * (counts.sum() / (len(counts) * counts))[examples.labels, None]

    def _splits(
        self, classifier: Classifier, rows: Tensor, mean: Tensor, turn: Tensor, targets: Tensor
    ) -> "tuple[Sequence[Split], str]":
        """What the penalties are judged by, and its name."""
        held = self.task.parts.get("validation")
        if held is not None and len(held) >= _ENOUGH_VALIDATION:
            others = (self._features(classifier, held) - mean) @ turn
            return [Split(rows, targets, others, self._targets(held))], f"{len(held):,} validation images"
        labels = self.task.train.labels.numpy()
        num_folds = min(_NUM_FOLDS, len(rows))
        folds = torch.from_numpy(stratified_folds(labels, num_folds, derive_seed("probe folds", self.seed)))
        parts = [(folds != fold, folds == fold) for fold in range(num_folds)] if num_folds > 1 else []
        splits = [Split(rows[train], targets[train], rows[other], targets[other]) for train, other in parts]
        return splits, f"{num_folds}-fold cross-validation"


@dataclass(frozen=True)
class Split:
    """Rows to fit, float64 (N, D), and rows to judge by, with their targets, float64 (N, K)."""

    rows: Tensor
    targets: Tensor
    held_rows: Tensor
    held_targets: Tensor


def standardized(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns with mean 0 and standard deviation 1, turned to their principal axes.

    A column that never changes, and an axis along which nothing does, are left out. The turn leaves an L2 penalty as it
    is and makes the columns uncorrelated, for which `fit_linear` needs far fewer iterations.

    Args:
        features: float64 (N, D).

    Returns:
        The means (D,), the turn (D, R) with R at most min(N, D), and (features - means) @ turn.
    """
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    scale = torch.where(std > 1e-6 * mean.abs(), 1 / std, 0.0)
    rows = (features - mean) * scale
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    turn = scale[:, None] * vectors[:, values > 1e-10 * values[-1].clamp(min=1e-30)]
    return mean, turn, (features - mean) @ turn


def choose_penalty(
    splits: Sequence[Split], loss: Loss, check_stop: Callable[[], None]
) -> tuple[float, LinearFit | None]:
    """The penalty with the least loss on what is held out, and a start for the final fit.

    From the strongest down, each fit begins at the last one; the search ends when two in a row were worse than the
    best. Without a split, of a single image, it is the strongest.
    """
    best, best_loss, best_fit, worse = PENALTIES[0], float("inf"), None, 0
    fits: list[LinearFit | None] = [None] * len(splits)
    for penalty in PENALTIES if splits else ():
        fits = [
            fit_linear(split.rows, split.targets, loss, penalty, fit, _ROUGHLY, check_stop)
            for split, fit in zip(splits, fits, strict=True)
        ]
        held_loss = sum(
            loss(functional.linear(split.held_rows, fit.weight, fit.bias), split.held_targets).item()
            * len(split.held_rows)
            for split, fit in zip(splits, fits, strict=True)
            if fit is not None
        )
        if held_loss < best_loss:
            best, best_loss, best_fit, worse = penalty, held_loss, fits[0], 0
        else:
            worse += 1
        if worse == _PATIENCE:
            break
    return best, best_fit
