"""The report of a task with one class for each image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ptft.checkpoint import Metadata
from ptft.data.records import Part
from ptft.data.task import Examples, Format
from ptft.models.classifier import Classifier
from ptft.report.console import Console
from ptft.report.evidence import Evidence, describe_calibration, gather_evidence
from ptft.report.measure import ACCURACY
from ptft.report.page import Fact, Section
from ptft.report.run_record import RunRecord
from ptft.report.score_sections import score_sections
from ptft.train.evaluate import Predictions

_TOP5 = replace(ACCURACY, key="top5")
_MAX_MATRIX = 20


class SingleLabelReport:
    """Accuracy, confusion matrix, confidence; mistakes, Grad-CAM, features."""

    measure = ACCURACY

    def tell(self, console: Console, scores: Mapping[str, Any], classes: Sequence[str]) -> None:
        rows = [
            [
                row["class"],
                f"{row['num_examples']:,}",
                self.measure.shown(row["precision"]),
                self.measure.shown(row["recall"]),
                _ends(row),
            ]
            for row in scores["per_class"]
        ]
        console.say(f"naming the most common class always would be right for {self.measure.shown(self.guess(scores))}.")
        console.table(["class", "n", "precision", "recall", "95 % interval"], rows)
        if len(classes) <= _MAX_MATRIX:
            columns = ["true \\ predicted", *(_short(name) for name in classes)]
            matrix = zip(classes, scores["confusion"], strict=True)
            console.table(columns, [[name, *map(str, cells)] for name, cells in matrix])

    def verdict(self, scores: Mapping[str, Any]) -> str:
        return f"{100 * scores['top1']:.1f} % right"

    def lead(self, run: RunRecord) -> str:
        scores = run.scores or {}
        guess = self.guess(scores)
        verb = "clearly more than" if scores["top1_low"] > guess else "not clearly more than"
        return (
            f"Of {scores['num_examples']:,} {run.part} images; 95 % interval {self.measure.ends(scores)}. This is "
            f"{verb} the {100 * guess:.1f} % that naming the most common class always would get right."
        )

    def guess(self, scores: Mapping[str, Any]) -> float:
        """The share of the most common true class."""
        share: float = max(map(sum, scores["confusion"])) / scores["num_examples"]
        return share

    def facts(self, run: RunRecord) -> list[Fact]:
        scores, summary = run.scores, run.summary or {}
        facts = []
        if scores:
            facts.append(Fact("accuracy", f"{100 * scores['top1']:.1f} %", self.measure.interval(scores)))
            if "top5_low" in scores:
                facts.append(Fact("right in top 5", f"{100 * scores['top5']:.1f} %", _TOP5.interval(scores)))
        if calibration := summary.get("calibration"):
            facts.append(Fact("calibration error", f"{100 * calibration['error']:.1f} %", _scaled(calibration)))
        return facts

    def sections(self, run: RunRecord) -> list[Section]:
        return score_sections(run)

    def notes(self, run: RunRecord) -> list[str]:
        absent = [row["class"] for row in (run.scores or {}).get("per_class", ()) if not row["num_examples"]]
        return [f"No {run.part} image of {_listed(absent)}: the accuracy says nothing about it."] if absent else []

    def calibration(self, predictions: Mapping[Part, Predictions]) -> dict[str, Any] | None:
        return describe_calibration(predictions)

    def gather(
        self,
        part: Part,
        classifier: Classifier,
        examples: Examples,
        predictions: Predictions,
        metadata: Metadata,
        device: torch.device,
        check_stop: Callable[[], None] = lambda: None,
    ) -> Evidence:
        format_ = Format(metadata.image_size, metadata.in_channels, metadata.mean, metadata.std)
        return gather_evidence(part, classifier, examples, predictions, format_, device, check_stop)


def _ends(row: dict[str, Any]) -> str:
    return "–" if row["recall"] is None else f"{100 * row['recall_low']:.1f} to {100 * row['recall_high']:.1f}"


def _short(name: str) -> str:
    return name if len(name) <= 8 else name[:7] + "…"


def _scaled(calibration: dict[str, Any]) -> str:
    n = f"n = {calibration['num_examples']:,}"
    return f"{100 * calibration['scaled_error']:.1f} % after temperature, {n}" if "scaled_error" in calibration else n


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
