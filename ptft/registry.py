"""Everything a config can name, read off the unions of the components."""

from ptft.augment import Augment
from ptft.config.components import summaries as component_summaries
from ptft.data.sources import Data
from ptft.errors import UsageError
from ptft.models import Model
from ptft.objectives import Objective
from ptft.tasks import Tasks
from ptft.tracking import TRACKERS
from ptft.train.optim import Optim
from ptft.train.schedule import Schedules
from ptft.transfer.recipes import RECIPES

_UNIONS = {
    "models": Model,
    "datasets": Data,
    "tasks": Tasks,
    "objectives": Objective,
    "augmentations": Augment,
    "optimizers": Optim,
    "schedules": Schedules,
}
_LINES: dict[str, dict[str, str]] = {
    "recipes": {str(name): recipe.summary for name, recipe in RECIPES.items()},
    "trackers": TRACKERS,
}


def summaries(what: str) -> dict[str, str]:
    """One line for each name.

    Args:
        what: `models`, `datasets`, `tasks`, `objectives`, `augmentations`, `optimizers`, `schedules`, `recipes` or
            `trackers`.

    Raises:
        UsageError: none of these.
    """
    if what in _LINES:
        return _LINES[what]
    if what not in _UNIONS:
        raise UsageError(f"{what!r} is not one of {', '.join([*_UNIONS, *_LINES])}.")
    return component_summaries(_UNIONS[what])
