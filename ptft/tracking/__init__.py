"""Where else a run's numbers are shown: the trackers that a config can name, one file each. Knows no torch."""

import importlib.util
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Strict

from ptft.errors import UsageError

TrackerName = Literal["tensorboard", "mlflow", "wandb"]

TRACKERS: dict[str, str] = {
    "tensorboard": "Event files in the run folder. The default.",
    "mlflow": "A run in MLflow, where MLFLOW_TRACKING_URI says. Extra `mlflow`.",
    "wandb": "A run in Weights & Biases, as its WANDB_ variables say. Extra `wandb`.",
}

_EXTRAS = ("mlflow", "wandb")


def _named_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is named twice.")
    return names


Tracking = Annotated[tuple[TrackerName, ...], Strict(False), AfterValidator(_named_once)]
"""Trackers by name."""


def check_installed(names: Sequence[TrackerName]) -> None:
    """Raises UsageError when the package of a tracker is missing."""
    for name in names:
        if name in _EXTRAS and importlib.util.find_spec(name) is None:
            raise UsageError(f"tracking: {name} is not installed. pip install 'ptft[{name}]', or leave it out.")
