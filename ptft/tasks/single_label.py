"""One class for each image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ptft.data.records import Source
from ptft.data.sources import DataConfig
from ptft.data.sources.listing import printable
from ptft.data.sources.row_labels import LabelCells, OneLabel
from ptft.objectives import Objective
from ptft.tasks.base import Answers, TaskConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ptft.data.labelling import Labelling, Scale
    from ptft.objectives.base import BatchLoss
    from ptft.train.metrics import TaskTally


class SingleLabel(TaskConfig):
    """One class for each image; softmax, accuracy. The default."""

    name: Literal["single-label"] = "single-label"

    def open(self, data: DataConfig) -> Source:
        """As the source has it."""
        return data.open()

    def cells(self, label_column: str) -> LabelCells:
        return OneLabel(label_column)

    def labelling(self) -> "Labelling":
        from ptft.data.labelling import ONE_CLASS

        return ONE_CLASS

    def objective(
        self, options: Objective, class_counts: Sequence[int], num_examples: int, scale: "Scale | None", seed: int
    ) -> "BatchLoss":
        return options.build(class_counts, seed)

    def tally(self, classes: Sequence[str], scale: "Scale | None", device: "torch.device") -> "TaskTally":
        from ptft.train.metrics import Tally

        return Tally(len(classes), device)

    def merits(self, logits: "Tensor", labels: "Tensor", scale: "Scale | None") -> "Tensor":
        """1 for an image that is named right, else 0."""
        return ((logits.argmax(dim=1) == labels) & logits.isfinite().all(dim=1)).double()

    def answers(self, classes: Sequence[str], scale: "Scale | None", top: int) -> Answers:
        return _Ranked(classes, top)

    def told(self) -> str:
        return self.name


@dataclass(frozen=True)
class _Ranked:
    """The most probable classes."""

    classes: Sequence[str]
    top: int
    columns: Sequence[str] = ("label", "probability")

    def values(self, logits: "Tensor") -> "Tensor":
        return logits.softmax(dim=1)

    def rows(self, logits: "Tensor") -> Iterator[tuple[Sequence[str], dict[str, Any]]]:
        probabilities, ranked = self.values(logits).topk(min(self.top, len(self.classes)))
        for shares, best in zip(probabilities.tolist(), ranked.tolist(), strict=True):
            top = [
                {"label": self.classes[index], "probability": share} for index, share in zip(best, shares, strict=True)
            ]
            yield [printable(self.classes[best[0]]), f"{shares[0]:.6f}"], {**top[0], "top": top}
