"""What a report says about a run depends on its task: one answer for each kind."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from ptft.checkpoint import Metadata
from ptft.data.records import Part
from ptft.data.task import Examples
from ptft.errors import CheckpointError
from ptft.models.classifier import Classifier
from ptft.report.console import Console
from ptft.report.evidence import Evidence
from ptft.report.measure import Measure
from ptft.report.multi_label_report import MultiLabelReport
from ptft.report.page import Fact, Section
from ptft.report.regression_report import RegressionReport
from ptft.report.run_record import RunRecord
from ptft.report.single_label_report import SingleLabelReport
from ptft.train.evaluate import Predictions


class TaskReport(Protocol):
    """The parts of console and page that differ from task to task; scores are as in summary.json."""

    @property
    def measure(self) -> Measure:
        """The number a run is judged by."""
        ...

    def tell(self, console: Console, scores: Mapping[str, Any], classes: Sequence[str]) -> None:
        """Tables for the console."""
        ...

    def verdict(self, scores: Mapping[str, Any]) -> str:
        """The answer, in a few words."""
        ...

    def lead(self, run: RunRecord) -> str:
        """The sentence below: interval, n, what it is compared with."""
        ...

    def guess(self, scores: Mapping[str, Any]) -> float | None:
        """The measure of a guess that looks at no image; None where there is none."""
        ...

    def facts(self, run: RunRecord) -> list[Fact]:
        """The numbers at the top."""
        ...

    def sections(self, run: RunRecord) -> list[Section]:
        """What the numbers of the summary make."""
        ...

    def notes(self, run: RunRecord) -> list[str]:
        """What a reader must know before trusting the verdict."""
        ...

    def calibration(self, predictions: Mapping[Part, Predictions]) -> dict[str, Any] | None:
        """Whether probabilities mean what they say, for the summary; None where that is not asked."""
        ...

    def gather(
        self,
        part: Part,
        classifier: Classifier,
        examples: Examples,
        predictions: Predictions,
        metadata: Metadata,
        device: torch.device,
        check_stop: Callable[[], None] = lambda: None,
    ) -> Evidence | Sequence[Section]:
        """A closer look at a few images of the part that was judged.

        Args:
            part: for the page.
            classifier: the final one, on `device`.
            examples: of the part, at least 1.
            predictions: the classifier's for them.
            metadata: of its checkpoint.
            device: to compute on.
            check_stop: raises when a signal asked to stop.
        """
        ...


_REPORTS: dict[str, TaskReport] = {
    "single-label": SingleLabelReport(),
    "multi-label": MultiLabelReport(),
    "regression": RegressionReport(),
}


def report_of(task: str) -> TaskReport:
    """The report of a task by its name.

    Raises:
        CheckpointError: there is no such task here.
    """
    if task not in _REPORTS:
        raise CheckpointError(f"this ptft knows no task {task!r}. Update ptft.")
    return _REPORTS[task]
