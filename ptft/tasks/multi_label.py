"""Any number of classes for each image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from ptft.config.base import Names, different
from ptft.data.records import Source
from ptft.data.sources import Csv, DataConfig
from ptft.data.sources.listing import printable
from ptft.data.sources.row_labels import LabelCells, SeparatedLabels, ZeroOneColumns
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


class MultiLabel(TaskConfig):
    """Any number of classes for each image; a sigmoid each, mean average precision (mAP), F1."""

    name: Literal["multi-label"] = "multi-label"
    separator: str = Field(";", min_length=1)
    """What stands between the class names of an image in `data.label_column`; an empty cell has none of the classes."""
    columns: Annotated[Names, Field(min_length=1, examples=[["cat", "dog"]])] | None = None
    """Columns of 0 and 1, one for each class and named like it, instead of `data.label_column`."""
    threshold: float = Field(0.5, gt=0, lt=1)
    """Probability from which an image counts as having a class: in F1, precision, recall and `ptft predict`."""

    limits: ClassVar[Mapping[str, Limit]] = {
        "data.name": NEEDS_TABLE,
        "data.labels_per_class": NO_COUNT,
        "data.validation_per_class": NO_COUNT,
        "train.sampling": UNIFORM,
        "transfer.co_tuning": NO_RELATION,
    }

    @field_validator("columns")
    @classmethod
    def _different(cls, columns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return columns and different(columns)

    def open(self, data: DataConfig) -> Source:
        """The rows of a table, with the names of their classes."""
        column = data.label_column if isinstance(data, Csv) else "label"
        return open_rows(data, self.name, self.cells(column))

    def cells(self, label_column: str) -> LabelCells:
        return ZeroOneColumns(self.columns) if self.columns else SeparatedLabels(label_column, self.separator)

    def labelling(self) -> "Labelling":
        from ptft.data.labelling import SeveralClasses

        return SeveralClasses()

    def objective(
        self, options: Objective, class_counts: Sequence[int], num_examples: int, scale: "Scale | None", seed: int
    ) -> "BatchLoss":
        """Binary cross-entropy; `class_weights: balanced` weighs the images with a class as much as those without."""
        from ptft.objectives.binary_cross_entropy import BinaryCrossEntropy
        from ptft.objectives.mixing import Mixing

        weights = None
        if options.class_weights == "balanced":
            # Where no image has the class, as in a part of the training images, its weight is never used.
            weights = [(num_examples - count) / max(count, 1) for count in class_counts]
        return BinaryCrossEntropy(options.label_smoothing, weights, Mixing(options.mixup, options.cutmix, seed))

    def tally(self, classes: Sequence[str], scale: "Scale | None", device: "torch.device") -> "TaskTally":
        from ptft.tasks.multi_label_scores import MultiLabelTally

        return MultiLabelTally(self.threshold)

    def merits(self, logits: "Tensor", labels: "Tensor", scale: "Scale | None") -> "Tensor":
        """What up to 200 groups of images add to mAP."""
        import torch

        from ptft.tasks.multi_label_scores import MultiLabelTally

        tally = MultiLabelTally(self.threshold)
        tally.add(torch.where(logits.isfinite(), logits, 0), labels)
        return torch.from_numpy(tally.scores().merits())

    def answers(self, classes: Sequence[str], scale: "Scale | None", top: int) -> Answers:
        return _Sets(classes, self.threshold, self.separator)

    def told(self) -> str:
        return f"{self.name}, threshold {self.threshold:g}"


@dataclass(frozen=True)
class _Sets:
    """The classes from the threshold on, and the probability of each."""

    classes: Sequence[str]
    threshold: float
    separator: str

    @property
    def columns(self) -> Sequence[str]:
        return ["labels", *map(printable, self.classes)]

    def values(self, logits: "Tensor") -> "Tensor":
        return logits.sigmoid()

    def rows(self, logits: "Tensor") -> Iterator[tuple[Sequence[str], dict[str, Any]]]:
        for shares in self.values(logits).tolist():
            found = dict(zip(self.classes, shares, strict=True))
            labels = [name for name, share in found.items() if share >= self.threshold]
            cells = [printable(self.separator.join(labels)), *(f"{share:.6f}" for share in shares)]
            yield cells, {"labels": labels, "probabilities": found}
