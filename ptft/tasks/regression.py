"""One or more numbers for each image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from ptft.config.base import Names, different
from ptft.data.records import Source
from ptft.data.sources import DataConfig
from ptft.data.sources.listing import printable
from ptft.data.sources.row_labels import LabelCells, NumberColumns
from ptft.objectives import Objective
from ptft.tasks.base import (
    NEEDS_TABLE,
    NO_COUNT,
    NO_RELATION,
    UNIFORM,
    Answers,
    Limit,
    TaskConfig,
    open_rows,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ptft.data.labelling import Labelling, Scale
    from ptft.objectives.base import BatchLoss
    from ptft.train.metrics import TaskTally

_NO_CLASSES = "is about classes, and a regression has none. Leave it out."


class Regression(TaskConfig):
    """One or more numbers for each image; squared error on standardised targets, MAE and R²."""

    name: Literal["regression"] = "regression"
    targets: Annotated[Names, Field(min_length=1, examples=[["age"]])]
    """The columns of the table that hold the numbers. They are standardised by the training images' mean and standard
    deviation; scores and predictions are in their own units."""

    limits: ClassVar[Mapping[str, Limit]] = {
        "data.name": NEEDS_TABLE,
        "data.classes": Limit((None,), "is about classes; the numbers are named by task.targets. Leave it out."),
        "data.labels_per_class": NO_COUNT,
        "data.validation_per_class": NO_COUNT,
        "train.sampling": UNIFORM,
        "transfer.co_tuning": NO_RELATION,
        "objective.label_smoothing": Limit((0.0,), _NO_CLASSES),
        "objective.class_weights": Limit(("none",), _NO_CLASSES),
        "objective.mixup": Limit((0.0,), "blends the labels of classes. Leave it out of a regression."),
        "objective.cutmix": Limit((0.0,), "blends the labels of classes. Leave it out of a regression."),
    }

    merit_deviation: ClassVar[float] = 0.1

    @field_validator("targets")
    @classmethod
    def _different(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for target in targets:
            for end in ("_low", "_high"):
                if target + end in targets:
                    raise ValueError(
                        f"{target + end!r} is what an end of the interval of {target!r} is called. Rename it."
                    )
        return different(targets)

    def open(self, data: DataConfig) -> Source:
        """The rows of a table, with their numbers."""
        return open_rows(data, self.name, self.cells("label"))

    def cells(self, label_column: str) -> LabelCells:
        return NumberColumns(self.targets)

    def labelling(self) -> "Labelling":
        from ptft.data.labelling import Numbers

        return Numbers()

    def objective(
        self, options: Objective, class_counts: Sequence[int], num_examples: int, scale: "Scale | None", seed: int
    ) -> "BatchLoss":
        from ptft.objectives.squared_error import SquaredError

        return SquaredError(_known(scale))

    def tally(self, classes: Sequence[str], scale: "Scale | None", device: "torch.device") -> "TaskTally":
        from ptft.tasks.regression_scores import RegressionTally

        return RegressionTally(classes, _known(scale))

    def merits(self, logits: "Tensor", labels: "Tensor", scale: "Scale | None") -> "Tensor":
        """What each image adds to mean R²."""
        import torch

        from ptft.tasks.regression_scores import RegressionTally

        tally = RegressionTally(self.targets, _known(scale))
        tally.add(logits, labels)
        return torch.from_numpy(tally.scores().merits())

    def answers(self, classes: Sequence[str], scale: "Scale | None", top: int) -> Answers:
        return _Numbers(classes, _known(scale))

    def told(self) -> str:
        return f"{self.name} of {', '.join(self.targets)}"


def _known(scale: "Scale | None") -> "Scale":
    if scale is None:
        raise ValueError("a regression has a scale of its targets")
    return scale


@dataclass(frozen=True)
class _Numbers:
    """The numbers, in the targets' own units."""

    targets: Sequence[str]
    scale: "Scale"

    @property
    def columns(self) -> Sequence[str]:
        return [printable(name) for name in self.targets]

    def values(self, logits: "Tensor") -> "Tensor":
        return self.scale.restore(logits)

    def rows(self, logits: "Tensor") -> Iterator[tuple[Sequence[str], dict[str, Any]]]:
        for numbers in self.values(logits.double()).tolist():
            yield [f"{number:.6g}" for number in numbers], {"targets": dict(zip(self.targets, numbers, strict=True))}
