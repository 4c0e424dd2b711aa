"""What every kind of task answers; knows no torch."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ptft.config.base import Config
from ptft.data.records import Source
from ptft.data.sources import Csv, DataConfig
from ptft.data.sources.row_labels import LabelCells
from ptft.errors import DataError
from ptft.objectives import Objective

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ptft.data.labelling import Labelling, Scale
    from ptft.objectives.base import BatchLoss
    from ptft.train.metrics import TaskTally


@dataclass(frozen=True)
class Limit:
    """A key of the config that a task restricts.

    Attributes:
        values: what the key may be.
        reason: why not something else, and what to do, as a sentence.
    """

    values: tuple[object, ...]
    reason: str


class Answers(Protocol):
    """What a classifier says about images, as rows for `ptft predict`."""

    @property
    def columns(self) -> Sequence[str]:
        """Headings of a csv row, after `path`."""
        ...

    def values(self, logits: "Tensor") -> "Tensor":
        """What logits, float (B, K), say of each class or target: probabilities, or numbers in their own units."""
        ...

    def rows(self, logits: "Tensor") -> "Iterator[tuple[Sequence[str], dict[str, Any]]]":
        """For each row of logits, float (B, K), the cells of a csv row and the fields of a jsonl row."""
        ...


class TaskConfig(Config):
    """Base of the components in `ptft.tasks.Tasks`."""

    name: str

    limits: ClassVar[Mapping[str, Limit]] = {}
    """Dotted keys of a run's config that this task restricts."""
    merit_deviation: ClassVar[float] = 0.03
    """How far ways to train are apart in merit, as a standard deviation, before anything is known of the data."""

    @abstractmethod
    def open(self, data: DataConfig) -> Source:
        """Lists the images of a source with this task's labels.

        Raises:
            DataError: see `DataConfig.open`; or the source has no such labels.
        """

    @abstractmethod
    def cells(self, label_column: str) -> LabelCells:
        """How a row of a table says what its image shows."""

    @abstractmethod
    def labelling(self) -> "Labelling":
        """What is made of the labels."""

    @abstractmethod
    def objective(
        self, options: Objective, class_counts: Sequence[int], num_examples: int, scale: "Scale | None", seed: int
    ) -> "BatchLoss":
        """What training minimises.

        Args:
            options: the section `objective`.
            class_counts: training images of each class.
            num_examples: training images.
            scale: of the targets of a regression.
            seed: the run's, for mixing.
        """

    @abstractmethod
    def tally(self, classes: Sequence[str], scale: "Scale | None", device: "torch.device") -> "TaskTally":
        """An empty tally of scores, on the device of the batches."""

    @abstractmethod
    def merits(self, logits: "Tensor", labels: "Tensor", scale: "Scale | None") -> "Tensor":
        """What images, or groups of them, add to the merit of predictions, float64 (G,).

        Their mean is the merit, or near it, and the variance of their differences between two classifiers tells what
        chance there is in the difference of the merits. What is not finite is worth nothing.

        Args:
            logits: float32 (N, K).
            labels: the truth, as `Examples` has it.
            scale: of the targets of a regression.
        """

    @abstractmethod
    def answers(self, classes: Sequence[str], scale: "Scale | None", top: int) -> Answers:
        """Rows for `ptft predict`, with the `top` most probable classes where there is one class an image."""

    @abstractmethod
    def told(self) -> str:
        """The task in a few words: `multi-label, threshold 0.5`."""


def open_rows(data: DataConfig, task: str, cells: LabelCells) -> Source:
    """The rows of a table with other labels than one class.

    Raises:
        DataError: `data` is no table.
    """
    if not isinstance(data, Csv):
        raise DataError(
            f"a {task} task needs a table with the labels of each image, and data.name: {data.name} has one class for "
            "each. Write a CSV file."
        )
    return data.open_labelled(cells)


NEEDS_TABLE = Limit(
    ("csv",), "has one class for each image. Write data.name: csv, with a table that lists the labels of each image."
)
NO_RELATION = Limit((None,), "relates the source's classes to one class an image. Leave it out.")
UNIFORM = Limit(("uniform",), "belongs to task.name: single-label, where each image is of one class. Leave it out.")
NO_COUNT = Limit((None,), "counts images of one class each, as task.name: single-label has them. Leave it out.")
