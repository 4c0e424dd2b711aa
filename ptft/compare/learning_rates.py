"""Which learning rate each arm gets, judged by validation alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ptft.compare.cells import Cell, Setting, validation_of
from ptft.compare.design import Arm, Labels

_MOST_EXTENSIONS = 3

Place = tuple[Arm, Labels]
"""Where a learning rate is chosen: an arm at a number of labels."""


@dataclass(frozen=True)
class Choice:
    """The learning rate of an arm at a number of labels.

    Attributes:
        lr: the chosen one.
        tried: learning rate -> mean validation top1 over the tuning seeds, rising in learning rate.
        is_at_edge: the best is the smallest or greatest of several that were tried: a better one may lie beyond.
    """

    lr: float
    tried: Mapping[float, float]
    is_at_edge: bool


def choose_learning_rates(setting: Setting, run: Callable[[Sequence[Cell]], None]) -> dict[Place, Choice]:
    """Tries every arm's grid at every number of labels, and widens it where the best is at its edge.

    One learning rate is chosen for each arm and number of labels, not for each draw of the labels: the mean over the
    tuning seeds is steadier, and it is one number to take home. The seeds it was chosen on see it a little too
    well, but on validation images, all arms alike, and what is compared are test images.

    Args:
        setting: of the comparison.
        run: runs those cells that have not been run.
    """
    section, config = setting.config.compare, setting.config
    default_lr = config.optim.usual_lr
    grids = {(arm, labels): section.lrs.of(arm, default_lr) for arm in section.arms for labels in setting.budgets}
    choices: dict[Place, Choice] = {}
    for extension in range(_MOST_EXTENSIONS + 1):
        if extension:
            grids = {place: widened(grid, choices[place].lr) for place, grid in grids.items()}
        run([cell for place, grid in grids.items() for cell in tuning_cells(setting, place, grid)])
        choices = {place: _choose(setting, place, grid) for place, grid in grids.items()}
    return choices


def tuning_cells(setting: Setting, place: Place, grid: Sequence[float]) -> list[Cell]:
    """The cells that judge a grid."""
    num_seeds = min(setting.config.compare.tuning_seeds, setting.config.compare.seeds)
    return [Cell(*place, seed, lr) for lr in grid for seed in range(num_seeds)]


def fewest_cells(setting: Setting) -> list[Cell]:
    """What is run at least: the grids as they begin, and the other seeds at a learning rate of them."""
    section, default_lr = setting.config.compare, setting.config.optim.usual_lr
    tuning = min(section.tuning_seeds, section.seeds)
    cells: list[Cell] = []
    for place in ((arm, labels) for labels in setting.budgets for arm in section.arms):
        grid = section.lrs.of(place[0], default_lr)
        cells += tuning_cells(setting, place, grid)
        cells += [Cell(*place, seed, grid[0]) for seed in range(tuning, section.seeds)]
    return cells


def chosen_cells(setting: Setting, place: Place, choice: Choice) -> list[Cell]:
    """The cells that are compared: every seed at the chosen learning rate."""
    return [Cell(*place, seed, choice.lr) for seed in range(setting.config.compare.seeds)]


def _choose(setting: Setting, place: Place, grid: Sequence[float]) -> Choice:
    """The best by mean accuracy, then mean loss; one at which a seed diverged only where there is no other."""
    scores: dict[float, tuple[bool, float, float]] = {}
    for lr in grid:
        top1s, losses = zip(
            *(validation_of(setting, cell) for cell in tuning_cells(setting, place, (lr,))), strict=True
        )
        scores[lr] = (all(map(math.isfinite, losses)), sum(top1s) / len(top1s), -sum(losses) / len(losses))
    best = max(grid, key=lambda lr: scores[lr])
    is_at_edge = len(grid) > 1 and best in (grid[0], grid[-1])
    return Choice(best, {lr: top1 for lr, (_, top1, _) in scores.items()}, is_at_edge)


def widened(grid: tuple[float, ...], best: float) -> tuple[float, ...]:
    """A rising grid of at least 3, with the next learning rate in its rhythm beyond the edge that is `best`.

    Below 0.03, 0.1, 0.3 comes 0.01, above comes 1: the step is the one between the next two but one, so that a
    grid in alternate steps of 3 and 3⅓ stays on round numbers. A shorter grid, or one with its best inside, stays.
    """
    if len(grid) < 3 or best not in (grid[0], grid[-1]):
        return grid
    first, second, third = grid[:3] if best == grid[0] else grid[:-4:-1]
    return tuple(sorted((*grid, float(f"{first * second / third:.6g}"))))
