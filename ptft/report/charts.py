"""The drawings of a run's page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import isin, tensor

from ptft.report.evidence import FeatureMap
from ptft.report.figures import INK, along_steps, blank, curve, legend_below, picture, style_of
from ptft.report.measure import ACCURACY, Measure
from ptft.report.page import Picture
from ptft.report.run_record import RunRecord

_MAX_NAMED = 20
_NUM_PICKED = 8
_MAX_BANDS = 4
_MOST_POINTS = 2000


def draw_loss(runs: Sequence[RunRecord], measure: Measure = ACCURACY) -> Picture | None:
    """Loss against the step: of one run on training and validation images, of several on the former alone."""
    figure, axes = blank()
    told = [run for run in runs if _column(run, "train_loss")[0]]
    if not told:
        return None
    for index, run in enumerate(runs):
        if run in told:
            curve(axes, *_column(run, "train_loss"), index, "training" if len(runs) == 1 else run.name)
    if len(runs) == 1 and _column(runs[0], "validation_loss")[0]:
        curve(axes, *_column(runs[0], "validation_loss"), index=1, label="validation")
    along_steps(axes, measure.loss_axis)
    legend_below(axes, 2)
    return picture(figure, f"{_told(runs)} loss against the step.", measure.loss_told)


def draw_measure(runs: Sequence[RunRecord], measure: Measure = ACCURACY) -> Picture | None:
    """The measure on validation against the step, with bands where they are few enough to be told apart."""
    figure, axes = blank()
    key = f"validation_{measure.key}"
    told = [run for run in runs if _column(run, key)[0]]
    if not told:
        return None
    for index, run in enumerate(runs):
        if run in told:
            steps, shares = _column(run, key, measure.factor)
            band = tuple(_column(run, f"{key}_{end}", measure.factor)[1] for end in ("low", "high"))
            label = "validation" if len(runs) == 1 else run.name
            # A lone run has validation in the same colour as beside the training loss.
            curve(axes, steps, shares, index if len(runs) > 1 else 1, label, band if len(told) <= _MAX_BANDS else None)
    along_steps(axes, measure.axis)
    if len(runs) > 1:
        legend_below(axes, 2)
    elif runs[0].summary:
        axes.axvline(runs[0].summary["best_step"], color=INK, linewidth=1, linestyle=(0, (3, 3)))
    ending = " The dashed line is the final checkpoint." if len(runs) == 1 and runs[0].summary else ""
    bands = " with its 95 % interval" if len(told) <= _MAX_BANDS else ""
    return picture(
        figure,
        f"{_told(runs)} validation {measure.name} against the step{bands}.",
        f"{measure.title} on validation{bands}, n = {_sizes(told, key)}.{ending}",
    )


def draw_reliability(calibration: dict[str, Any]) -> Picture:
    """Accuracy against confidence, a point for each bin, with intervals."""
    figure, axes = blank(3.9, 3.4)
    axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=(0, (3, 3)))
    bins = calibration["bins"]
    confidence, accuracy = ([100 * one[key] for one in bins] for key in ("confidence", "accuracy"))
    ends = [
        [100 * max(0.0, one["accuracy"] - one["accuracy_low"]) for one in bins],
        [100 * max(0.0, one["accuracy_high"] - one["accuracy"]) for one in bins],
    ]
    colour = style_of(0)[0]
    most = max(one["num_examples"] for one in bins)
    axes.errorbar(confidence, accuracy, ends, color=colour, fmt="none", elinewidth=1.4)
    sizes = [12 + 90 * one["num_examples"] / most for one in bins]
    axes.scatter(confidence, accuracy, sizes, color=colour, zorder=3)
    axes.set(xlabel="confidence (%)", ylabel="right (%)", xlim=(0, 104), ylim=(0, 104))
    return picture(
        figure,
        "Reliability diagram: share of images predicted right against the confidence of the prediction.",
        "Each point is the images of one range of confidence, larger for more images, with its 95 % interval. On the "
        "dashed line the classifier is right as often as it says; below it, it is too sure of itself.",
    )


def draw_predicted(truth: np.ndarray, predicted: np.ndarray, name: str) -> Picture:
    """Predicted against true values, float64 (N,) each, of one target; at most 2,000 images, spread evenly."""
    figure, axes = blank(3.9, 3.4)
    rows = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), _MOST_POINTS)).round().astype(int))
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color=INK, linewidth=1, linestyle=(0, (3, 3)))
    colour, marker = style_of(0)
    opacity = 0.7 if len(rows) <= 300 else 0.3
    axes.scatter(truth[rows], predicted[rows], s=14, color=colour, marker=marker, alpha=opacity, linewidths=0)
    axes.set(xlabel=f"true {_short(name)}", ylabel=f"predicted {_short(name)}")
    some = f"{len(rows):,} of {len(truth):,}" if len(rows) < len(truth) else f"{len(truth):,}"
    return picture(
        figure,
        f"Scatter plot of predicted against true {name}.",
        f"{name} of {some} images. On the dashed line the prediction is the truth.",
    )


def draw_feature_map(found: FeatureMap, classes: Sequence[str], picked: Sequence[int]) -> Picture:
    """Features in two dimensions by true class.

    Args:
        found: the points.
        classes: names.
        picked: classes to colour, where there are too many to colour all.
    """
    figure, axes = blank(4.2, 3.5)
    shown = list(range(len(classes))) if len(classes) <= _MAX_NAMED else sorted(picked[:_NUM_PICKED])
    if len(shown) < len(classes):
        rest = ~isin(found.labels, tensor(shown))
        x, y = found.points[rest].T.numpy()
        axes.scatter(x, y, s=9, color=INK, alpha=0.3, linewidths=0, label="others")
    for place, index in enumerate(shown):
        colour, marker = style_of(place)
        x, y = found.points[found.labels == index].T.numpy()
        axes.scatter(x, y, s=17, color=colour, marker=marker, alpha=0.8, linewidths=0, label=_short(classes[index]))
    columns = 3 if all(len(classes[index]) <= 12 for index in shown) else 2
    axes.set_xticks([], [])
    axes.set_yticks([], [])
    shares = [f"{100 * share:.0f} %" for share in found.explained]
    axes.set(xlabel=f"first direction, {shares[0]} of the variance", ylabel=f"second, {shares[1]}")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.1), ncols=columns, frameon=False, labelcolor=INK,
                handletextpad=0.1, columnspacing=0.8, borderpad=0, markerscale=1.5)  # fmt: skip
    some = "" if len(shown) == len(classes) else f" The {len(shown)} classes with the most mistakes are coloured."
    return picture(
        figure,
        "Scatter plot of the features of images, coloured by true class.",
        f"Features of {len(found.labels):,} images, in the two directions in which they vary most (principal "
        f"components). Classes that lie apart are easy to tell apart.{some}",
    )


def _column(run: RunRecord, key: str, factor: float = 1) -> tuple[list[float], list[float]]:
    lines = [line for line in run.metrics if line.get(key) is not None]
    return [line["step"] for line in lines], [factor * line[key] for line in lines]


def _sizes(runs: Sequence[RunRecord], key: str) -> str:
    sizes = {line["validation_num_examples"] for run in runs for line in run.metrics if key in line}
    return " to ".join(f"{size:,}" for size in sorted({min(sizes), max(sizes)}))


def _told(runs: Sequence[RunRecord]) -> str:
    return "Line chart:" if len(runs) == 1 else f"Line chart of {len(runs)} runs:"


def _short(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "…"
