"""The report of a task with one or more numbers for each image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ptft.checkpoint import Metadata
from ptft.config.wording import rounded
from ptft.data.labelling import Scale
from ptft.data.records import Part
from ptft.data.task import Examples
from ptft.models.classifier import Classifier
from ptft.report.charts import draw_predicted
from ptft.report.console import Console
from ptft.report.measure import R_SQUARED
from ptft.report.page import Cell, Fact, Gallery, Prose, Section, Table
from ptft.report.pixels import short_name, thumbnail
from ptft.report.run_record import RunRecord
from ptft.train.evaluate import Predictions

_NUM_ERRORS = 24
_MOST_DRAWN = 6
_MOST_FACTS = 4


class RegressionReport:
    """R² and mean absolute errors, a table of the targets; predicted against true, the largest errors."""

    measure = R_SQUARED

    def tell(self, console: Console, scores: Mapping[str, Any], classes: Sequence[str]) -> None:
        columns = ["target", "MAE", "95 % interval", "of the mean", "RMSE", "R²", "95 % interval", "from", "to"]
        rows = [
            [
                row["target"],
                rounded(row["mae"]),
                _ends(row, "mae"),
                rounded(row["mae_of_mean"]),
                rounded(row["rmse"]),
                f"{row['r2']:.3f}",
                f"{row['r2_low']:.3f} to {row['r2_high']:.3f}",
                rounded(row["low"]),
                rounded(row["high"]),
            ]
            for row in scores["per_target"]
        ]
        console.table(columns, rows)
        console.say(
            "of the mean: the MAE of predicting the mean of the training images always; from, to: of the truth."
        )

    def verdict(self, scores: Mapping[str, Any]) -> str:
        return f"{_name(scores)} {scores['r2']:.3f}"

    def lead(self, run: RunRecord) -> str:
        scores = run.scores or {}
        number = len(scores["per_target"])
        mean = f", the mean over {self.measure.outputs(number)}" if number > 1 else ""
        verb = "clearly more than" if scores["r2_low"] > 0 else "not clearly more than"
        return (
            f"Of {scores['num_examples']:,} {run.part} images{mean}; 95 % interval {self.measure.ends(scores)}. This "
            f"is {verb} 0, which the mean of these images, predicted always, would have; 1 would be no error at all."
        )

    def guess(self, scores: Mapping[str, Any]) -> float | None:
        return 0.0

    def facts(self, run: RunRecord) -> list[Fact]:
        scores = run.scores
        if not scores:
            return []
        n = f"n = {scores['num_examples']:,}"
        errors = [
            Fact(
                f"MAE of {row['target']}",
                rounded(row["mae"]),
                f"{_ends(row, 'mae')}, {n}; of the training mean: {rounded(row['mae_of_mean'])}",
            )
            for row in scores["per_target"][:_MOST_FACTS]
        ]
        return [Fact(_name(scores), f"{scores['r2']:.3f}", self.measure.interval(scores)), *errors]

    def sections(self, run: RunRecord) -> list[Section]:
        scores = run.scores or {}
        columns = ["target", "MAE", "95 % interval", "of the mean", "RMSE", "R²"]
        told = (
            f"Of {scores['num_examples']:,} {run.part} images. MAE: mean absolute error, in the target's own unit; "
            "beside it that of predicting the mean of the training images always. RMSE: root of the mean squared "
            "error. R²: share of the variance that is explained. Range: of the true values. Intervals are by bootstrap "
            "over the images."
        )
        rows = [_target_row(row) for row in scores["per_target"]]
        return [Section("Targets", [Table([*columns, "95 % interval", "range"], rows, told)])]

    def notes(self, run: RunRecord) -> list[str]:
        return []

    def calibration(self, predictions: Mapping[Part, Predictions]) -> dict[str, Any] | None:
        return None

    def gather(
        self,
        part: Part,
        classifier: Classifier,
        examples: Examples,
        predictions: Predictions,
        metadata: Metadata,
        device: torch.device,
        check_stop: Callable[[], None] = lambda: None,
    ) -> Sequence[Section]:
        scale, targets = Scale(metadata.target_mean, metadata.target_std), metadata.classes
        predicted, truth = scale.restore(predictions.logits.double()), predictions.labels
        drawn = [
            draw_predicted(truth[:, index].numpy(), predicted[:, index].numpy(), name)
            for index, name in enumerate(targets[:_MOST_DRAWN])
        ]
        errors = (predicted - truth).abs() / torch.tensor(scale.std, dtype=torch.float64)
        rows = errors.amax(dim=1).argsort(descending=True, stable=True)[:_NUM_ERRORS]
        shown = [
            thumbnail(image, f"{examples.names[row]}", _caption(row, targets, predicted, truth, errors, examples))
            for row, image in zip(rows.tolist(), examples.images.take(rows), strict=True)
        ]
        told = (
            "The images whose prediction is furthest off, in standard deviations of the training images; wrong numbers "
            f"in the data are often found here. As the network saw them, {metadata.image_size} × {metadata.image_size} "
            "pixels."
        )
        return [Section("Predicted and true", drawn), Section("Largest errors", [Prose(told), Gallery(shown)])]


def _caption(
    row: int, targets: Sequence[str], predicted: Tensor, truth: Tensor, errors: Tensor, examples: Examples
) -> str:
    worst = int(errors[row].argmax())
    value, told = float(truth[row, worst]), float(predicted[row, worst])
    return f"{targets[worst]} {rounded(value)}\npredicted {rounded(told)}\n{short_name(examples.names[row])}"


def _name(scores: Mapping[str, Any]) -> str:
    return "mean R²" if len(scores["per_target"]) > 1 else "R²"


def _target_row(row: dict[str, Any]) -> list[str | Cell]:
    return [
        row["target"],
        _cell(row["mae"]),
        Cell(_ends(row, "mae"), row["mae_low"]),
        _cell(row["mae_of_mean"]),
        _cell(row["rmse"]),
        Cell(f"{row['r2']:.3f}", row["r2"]),
        Cell(f"{row['r2_low']:.3f} to {row['r2_high']:.3f}", row["r2_low"]),
        Cell(f"{rounded(row['low'], 3)} to {rounded(row['high'], 3)}", row["high"] - row["low"]),
    ]


def _cell(value: float) -> Cell:
    return Cell(rounded(value), value)


def _ends(row: Mapping[str, Any], key: str) -> str:
    return f"{rounded(row[f'{key}_low'], 3)} to {rounded(row[f'{key}_high'], 3)}"
