"""The report of a task with any number of classes for each image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ptft.checkpoint import Metadata
from ptft.data.records import Part
from ptft.data.task import Examples, Format
from ptft.models.classifier import Classifier
from ptft.report.console import Console
from ptft.report.evidence import Shown, ask_where
from ptft.report.measure import MEAN_AVERAGE_PRECISION
from ptft.report.page import Block, Cell, Fact, Gallery, Prose, Section, Table, count, percent
from ptft.report.pixels import short_name, thumbnail, with_heat
from ptft.report.run_record import RunRecord
from ptft.train.evaluate import Predictions

_NUM_MISTAKES = 24
_NUM_HEATED = 8


class MultiLabelReport:
    """mAP and F1, a table of the classes; the surest mistakes, Grad-CAM."""

    measure = MEAN_AVERAGE_PRECISION

    def tell(self, console: Console, scores: Mapping[str, Any], classes: Sequence[str]) -> None:
        columns = ["class", "n", "AP", "95 % interval", f"F1 at {scores['threshold']:g}", "95 % interval"]
        rows = [
            [
                row["class"],
                f"{row['num_examples']:,}",
                self.measure.shown(row["average_precision"]),
                _ends(row, "average_precision"),
                self.measure.shown(row["f1"]),
                _ends(row, "f1"),
                self.measure.shown(row["precision"]),
                self.measure.shown(row["recall"]),
            ]
            for row in scores["per_class"]
        ]
        console.say(
            f"ranking the images at random would give an mAP of about {self.measure.shown(self.guess(scores))}."
        )
        console.table([*columns, "precision", "recall"], rows)

    def verdict(self, scores: Mapping[str, Any]) -> str:
        return f"mAP {self.measure.shown(scores['map'])}"

    def lead(self, run: RunRecord) -> str:
        scores = run.scores or {}
        outputs = self.measure.outputs(len(scores["per_class"]))
        told = f"Of {scores['num_examples']:,} {run.part} images, the mean over {outputs}"
        guess, low = self.guess(scores), scores["map_low"]
        if guess is None or low is None:
            return f"{told}; not known where no image has a class."
        verb = "clearly more than" if low > guess else "not clearly more than"
        return (
            f"{told}; 95 % interval {self.measure.ends(scores)}. This is {verb} the {100 * guess:.1f} % that ranking "
            "the images at random would give."
        )

    def guess(self, scores: Mapping[str, Any]) -> float | None:
        """The mean share of the classes, as far as they are there: about the mAP of a random ranking."""
        shares = [row["num_examples"] / scores["num_examples"] for row in scores["per_class"] if row["num_examples"]]
        return sum(shares) / len(shares) if shares else None

    def facts(self, run: RunRecord) -> list[Fact]:
        scores = run.scores
        if not scores:
            return []
        n = f"n = {scores['num_examples']:,}"
        f1 = Fact(f"F1 at {scores['threshold']:g}", self.measure.shown(scores["f1"]), f"{_ends(scores, 'f1')} %, {n}")
        return [Fact("mAP", self.measure.shown(scores["map"]), self.measure.interval(scores)), f1]

    def sections(self, run: RunRecord) -> list[Section]:
        scores = run.scores or {}
        columns = ["class", f"{run.part} images", "average precision", "95 % interval", "F1", "95 % interval"]
        told = (
            "Average precision: precision averaged over the images that have the class, ranked by its probability; "
            "whatever the threshold. F1, precision (of the images said to have the class, how many have it) and "
            "recall (of those that have it, how many were said to) are at a probability of "
            f"{scores['threshold']:g}. Intervals are by bootstrap over the images."
        )
        rows = [_class_row(row) for row in scores["per_class"]]
        return [Section("Classes", [Table([*columns, "precision", "recall"], rows, told)])]

    def notes(self, run: RunRecord) -> list[str]:
        absent = [row["class"] for row in (run.scores or {}).get("per_class", ()) if not row["num_examples"]]
        return [f"No {run.part} image has {', '.join(absent)}: the mAP says nothing about it."] if absent else []

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
        shares, truth = predictions.logits.double().sigmoid(), predictions.labels
        threshold = metadata.config["task"]["threshold"]
        sure = torch.where((shares >= threshold) != (truth > 0.5), (shares - truth).abs(), 0.0)
        order = sure.amax(dim=1).argsort(descending=True, stable=True).tolist()
        wrong = [row for row in order if sure[row].amax() > 0][:_NUM_MISTAKES]
        classes = metadata.classes
        captions = _Captions(classes, shares, truth)
        check_stop()
        sections = []
        if wrong:
            told = (
                "Where one class was surest and wrong; labels that are missing in the data are often found here. "
                f"Images are as the classifier saw them, {metadata.image_size} × {metadata.image_size} pixels."
            )
            images = examples.images.take(torch.tensor(wrong))
            shown = [
                thumbnail(image, captions.alt(row, examples), captions.mistake(row, int(sure[row].argmax()), examples))
                for row, image in zip(wrong, images, strict=True)
            ]
            sections.append(Section("Mistakes", [Prose(told), Gallery(shown)]))
        format_ = Format(metadata.image_size, metadata.in_channels, metadata.mean, metadata.std)
        rows = _of_each_class(shares, truth)[:_NUM_HEATED]
        return [*sections, Section("Where it looked", _heat(rows, classifier, examples, captions, format_, device))]


class _Captions:
    """What is written below the images of a page."""

    def __init__(self, classes: Sequence[str], shares: Tensor, truth: Tensor) -> None:
        self.classes, self.shares, self.truth = classes, shares, truth

    def has(self, row: int) -> str:
        """The true classes."""
        names = [name for name, value in zip(self.classes, self.truth[row].tolist(), strict=True) if value]
        return ", ".join(names) or "none"

    def alt(self, row: int, examples: Examples) -> str:
        return f"{examples.names[row]}: {self.has(row)}"

    def mistake(self, row: int, index: int, examples: Examples) -> str:
        share = 100 * float(self.shares[row, index])
        return f"{self.has(row)}\n{self.classes[index]}: {share:.1f} %\n{short_name(examples.names[row])}"


def _of_each_class(shares: Tensor, truth: Tensor) -> list[tuple[int, int]]:
    """Row and class of the surest right image of each class."""
    right = torch.where(truth > 0.5, shares, -1.0)
    best = right.max(dim=0)
    found = [(row, index) for index, row in enumerate(best.indices.tolist()) if best.values[index] >= 0.5]
    return sorted(found, key=lambda pair: -float(shares[pair]))


def _heat(
    chosen: Sequence[tuple[int, int]],
    classifier: Classifier,
    examples: Examples,
    captions: _Captions,
    format_: Format,
    device: torch.device,
) -> list[Block]:
    images = examples.images.take(torch.tensor([row for row, _ in chosen], dtype=torch.int64))
    shown = [
        Shown(image, examples.names[row], -1, index, float(captions.shares[row, index]))
        for (row, index), image in zip(chosen, images, strict=True)
    ]
    pictures = [
        thumbnail(
            with_heat(one.image, one.heat),
            f"{one.name}; beside it the places that spoke for {captions.classes[one.predicted]}",
            f"{captions.classes[one.predicted]}, {100 * one.confidence:.1f} %\n{short_name(one.name)}",
        )
        for one in ask_where(shown, classifier, format_, device)
        if one.heat is not None
    ]
    if not pictures:
        told = "No Grad-CAM: no class was found, or the backbone has no last feature map of more than one pixel."
        return [Prose(told, soft=True)]
    told = (
        "Grad-CAM (Selvaraju et al. 2017): the yellower, the more a place spoke for the class named below, in the "
        "image where it was found most surely and rightly."
    )
    return [Prose(told), Gallery(pictures, is_wide=True)]


def _class_row(row: dict[str, Any]) -> list[str | Cell]:
    return [
        row["class"],
        count(row["num_examples"]),
        percent(row["average_precision"]),
        Cell(_ends(row, "average_precision"), row["average_precision_low"]),
        percent(row["f1"]),
        Cell(_ends(row, "f1"), row["f1_low"]),
        percent(row["precision"]),
        percent(row["recall"]),
    ]


def _ends(found: Mapping[str, Any], key: str) -> str:
    low, high = found[f"{key}_low"], found[f"{key}_high"]
    return "–" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
