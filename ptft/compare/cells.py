"""One cell of a comparison: an arm, a number of labels, a seed and a learning rate, run in a folder of its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptft import checkpoint
from ptft.compare.design import Arm, Labels
from ptft.config.durations import Duration
from ptft.data.cache import USUAL_CACHE, CacheOptions
from ptft.data.records import Part
from ptft.data.splits import split
from ptft.data.task import listing_of, prepare_part
from ptft.errors import NotFiniteError
from ptft.inference import load_classifier
from ptft.report.console import silent
from ptft.report.journal import read_metrics
from ptft.run.session import run_in_folder
from ptft.run.training import finetune, pretrain
from ptft.run_folder import RunFolder
from ptft.runtime import memory_errors, pick_device
from ptft.settings import CompareConfig, FinetuneConfig, PretrainConfig
from ptft.storage import storage_errors, write_text_durably
from ptft.train.evaluate import predictions_of
from ptft.transfer.origin import Origin
from ptft.transfer.recipes import Budget, TransferConfig
from ptft.transfer.source import format_of

_DIVERGED = NotFiniteError.exit_code
# Looks at validation in a run.
NUM_LOOKS = 10
# A cell never reads the test images: they are looked at once the learning rates are chosen.
READ: tuple[Part, ...] = ("train", "validation")


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        arm: which weights it starts from, and what is trained.
        labels: of each class.
        seed: counted from 0.
        lr: peak learning rate.
    """

    arm: Arm
    labels: Labels
    seed: int
    lr: float

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"{self.arm}-labels-{self.labels}-seed-{self.seed}-lr-{self.lr:g}"


@dataclass(frozen=True)
class Setting:
    """What all cells of a comparison share.

    Attributes:
        config: with model, image format, validation, precision decided.
        sources: the weights in question, see `read_source`; seed s starts from the one at place s modulo their number.
        out: folder of the comparison.
        budgets: steps and batch size at each number of labels, the same for every arm.
        charged_steps: steps that random weights get in addition.
        cache: what the command line says about it.
    """

    config: CompareConfig
    sources: Sequence[Origin]
    out: Path
    budgets: Mapping[Labels, Budget]
    charged_steps: int
    cache: CacheOptions = USUAL_CACHE

    def folder(self, cell: Cell) -> RunFolder:
        """The cell's run folder."""
        return RunFolder(self.out / "cells" / cell.name)

    def source(self, cell: Cell) -> Origin | None:
        """What the cell's weights come from; None for random ones."""
        return None if cell.arm == "random" else self.sources[cell.seed % len(self.sources)]

    def num_steps(self, cell: Cell) -> int:
        """Optimizer steps of a cell."""
        return self.budgets[cell.labels].steps + (self.charged_steps if cell.arm == "random" else 0)

    def config_of(self, cell: Cell) -> PretrainConfig | FinetuneConfig:
        """An ordinary config: random weights are a pretraining on the target task."""
        config, steps = self.config, self.num_steps(cell)
        labels = None if cell.labels == "all" else cell.labels
        every = config.train.evaluate_every or Duration(steps=-(-steps // NUM_LOOKS))
        length = {"steps": steps, "epochs": None, "examples": None}
        size = {"batch_size": self.budgets[cell.labels].batch_size, "evaluate_every": every}
        shared: dict[str, Any] = {
            "seed": config.seed + cell.seed,
            "device": config.device,
            "data": config.data.model_copy(update={"labels_per_class": labels}),
            "augment": config.augment,
            "model": config.model,
            "objective": config.objective,
            "optim": config.optim.model_copy(update={"lr": cell.lr}),
            "schedule": config.schedule,
            "train": config.train.model_copy(update=length | size),
            "checkpoint": config.checkpoint.model_copy(update={"every": config.checkpoint.every or every, "keep": 1}),
        }
        if cell.arm == "random":
            return PretrainConfig(**shared)
        probe = TransferConfig(recipe="probe", min_loaded=config.transfer.min_loaded)
        return FinetuneConfig(**shared, transfer=probe if cell.arm == "probe" else config.transfer)


def is_finished(setting: Setting, cell: Cell) -> bool:
    """Whether the cell has run to its end, or diverged, which it would do again."""
    return setting.folder(cell).read_summary() is not None or has_diverged(setting, cell)


def has_diverged(setting: Setting, cell: Cell) -> bool:
    """Whether the cell ended because its loss was not finite."""
    return setting.folder(cell).read_status().get("exit_code") == _DIVERGED


def validation_of(setting: Setting, cell: Cell) -> tuple[float, float]:
    """Validation top1 and loss of a finished cell; 0 and infinity for one that diverged."""
    summary = setting.folder(cell).read_summary()
    return (summary["validation"]["top1"], summary["validation"]["loss"]) if summary else (0.0, float("inf"))


def train_cell(setting: Setting, cell: Cell) -> None:
    """Runs a cell, or goes on with it, in its folder; of its checkpoints only the best one stays.

    Raises:
        PtftError: any but NotFiniteError: a learning rate at which training diverges is a result.
    """

    source, folder = setting.source(cell), setting.folder(cell)

    def work(config: Any, session: Any) -> Any:
        if source is None:
            return pretrain(config, session, read=READ, draw=False)
        return finetune(config, source, session, read=READ, draw=False)

    with silent() as console:
        try:
            run_in_folder(
                folder,
                setting.config_of(cell),
                work,
                source=source,
                resume=True,
                console=console,
                command="ptft compare",
                cache=setting.cache,
            )
        except NotFiniteError:
            return
    with storage_errors(folder.checkpoints, "tidy"):
        for path in (folder.last, *folder.checkpoints.glob("step-*.pt")):
            path.unlink(missing_ok=True)


def predictions_path(setting: Setting, cell: Cell) -> Path:
    """Where a cell's test predictions are kept."""
    return setting.folder(cell).path / "test.json"


def predict_cells(setting: Setting, cells: Sequence[Cell]) -> None:
    """Lets each cell's best checkpoint name the class of every test image; the images are read once.

    Raises:
        PtftError: CheckpointError, DataError, StorageError.
    """
    data, device = setting.config.data, pick_device(setting.config.device)
    source = data.open()
    classes, parts = split(source, data, seed=0)
    examples = None
    with memory_errors():
        for cell in cells:
            found = checkpoint.read(setting.folder(cell).best)
            if examples is None:
                cache = setting.cache.open(lambda _: None)
                examples, _ = prepare_part(parts["test"], classes, data, format_of(found), cache=cache)
            classifier = load_classifier(found).to(device)
            predicted = predictions_of(classifier, examples, format_of(found), device)
            result = {
                "listing": listing_of({"test": parts["test"]}),
                "labels": predicted.labels.tolist(),
                "predicted": predicted.logits.argmax(dim=1).tolist(),
            }
            write_text_durably(predictions_path(setting, cell), json.dumps(result) + "\n")


def rightness_of(setting: Setting, cell: Cell) -> np.ndarray:
    """Whether each test image was predicted right, bool (N,)."""
    result = json.loads(predictions_path(setting, cell).read_text())
    right: np.ndarray = np.equal(result["labels"], result["predicted"])
    return right


def curve_of(setting: Setting, cell: Cell) -> list[tuple[int, float]]:
    """Step and validation top1 of every look, rising."""
    lines = read_metrics(setting.folder(cell))
    return [(line["step"], line["validation_top1"]) for line in lines if "validation_top1" in line]
