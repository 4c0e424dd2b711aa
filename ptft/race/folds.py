"""What racers train on and what they are judged by: the target's validation images, or its training images in turn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ptft.data.folds import stratified_folds
from ptft.data.task import Examples, Task
from ptft.runtime import derive_seed

ENOUGH = 200
"""Validation images that tell racers, or checkpoints of a run, apart."""
_MOST = 2_000
"""Images to judge by; more cost more than they tell."""
_NUM_FOLDS = 3


@dataclass(frozen=True)
class Fold:
    """One division of the images.

    Attributes:
        task: of which only the training part is there.
        held: labelled images that are not in it.
    """

    task: Task
    held: Examples


def folds_of(task: Task, seed: int) -> Sequence[Fold]:
    """The divisions that together judge by enough images, each of them once; none where every class has one image.

    Images with several classes, or numbers, are dealt out as they come.

    Where the task has at least 200 validation images it is they and all the training images. Otherwise the training
    images are cut in three, class by class, and as many of the thirds are held out in turn as it takes to judge by
    300 of them, or all three. Never a test image.

    Args:
        task: the target.
        seed: the run's.
    """
    validation = task.parts.get("validation")
    if validation is not None and len(validation) >= ENOUGH:
        rows = torch.arange(0, len(validation), -(-len(validation) // _MOST))
        return [Fold(replace(task, parts={"train": task.train}), validation.chosen(rows))]
    labels = task.train.labels
    folds = torch.from_numpy(stratified_folds(labels.numpy(), _NUM_FOLDS, derive_seed("race folds", seed)))
    if labels.ndim == 1:
        folds[torch.bincount(labels)[labels] < 2] = -1  # a class's only image is always trained on
    needed = min(_NUM_FOLDS, math.ceil(1.5 * ENOUGH * _NUM_FOLDS / len(labels)))
    return [_fold(task, folds == fold) for fold in range(needed) if bool((folds == fold).any())]


def _fold(task: Task, held: torch.Tensor) -> Fold:
    train, others = task.train.chosen((~held).nonzero().flatten()), held.nonzero().flatten()
    others = others[:: -(-len(others) // _MOST)]
    return Fold(replace(task, parts={"train": train}), task.train.chosen(others))
