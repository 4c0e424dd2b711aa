"""What a page shows beyond the numbers of the summary: needs the images and the classifier."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ptft.data.images import ResidentImages
from ptft.data.records import HELD_OUT, Part
from ptft.data.task import Examples, Format
from ptft.models.classifier import Classifier
from ptft.proof.calibration_error import CalibrationError, expected_calibration_error, fit_temperature
from ptft.report.grad_cam import grad_cam
from ptft.train.evaluate import Predictions, features_of
from ptft.train.metrics import wilson_interval

_NUM_MISTAKES = 24
_NUM_HEATED = 8
_NUM_MAPPED = 600


@dataclass(frozen=True)
class Shown:
    """One image with what was said about it.

    Attributes:
        image: uint8 (C, S, S).
        name: of the image.
        true, predicted: indices of classes.
        confidence: probability of the predicted class.
        heat: float (h, w) in [0, 1], what spoke for the predicted class; None where it was not asked.
    """

    image: Tensor
    name: str
    true: int
    predicted: int
    confidence: float
    heat: Tensor | None = None


@dataclass(frozen=True)
class FeatureMap:
    """Features in two dimensions.

    Attributes:
        points: float64 (N, 2), along the two directions of most variance.
        labels: int64 (N,), true classes.
        explained: share of the variance along each, in [0, 1].
    """

    points: Tensor
    labels: Tensor
    explained: tuple[float, float]


@dataclass(frozen=True)
class Evidence:
    """Of one part.

    Attributes:
        part: which.
        mistakes: the most confident ones, most confident first.
        heated: some mistakes and some right ones with their heat; empty where the backbone gives none.
        feature_map: None with fewer than 3 images.
    """

    part: Part
    mistakes: Sequence[Shown]
    heated: Sequence[Shown]
    feature_map: FeatureMap | None


def gather_evidence(
    part: Part,
    classifier: Classifier,
    examples: Examples,
    predictions: Predictions,
    format_: Format,
    device: torch.device,
    check_stop: Callable[[], None] = lambda: None,
) -> Evidence:
    """Looks at a few images more closely: seconds, whatever the size of the part.

    Args:
        part: for the page.
        classifier: the final one, on `device`.
        examples: of the part, at least 1.
        predictions: the classifier's for them.
        format_: how images are given to the model.
        device: to compute on.
        check_stop: raises when a signal asked to stop.
    """
    confidences, predicted = predictions.confidences()
    is_wrong = predicted != predictions.labels
    mistakes = _most_confident(confidences, is_wrong)[:_NUM_MISTAKES]
    right = _one_of_each_class(_most_confident(confidences, ~is_wrong), predicted)

    def show(rows: Sequence[int]) -> list[Shown]:
        images = examples.images.take(torch.tensor(rows, dtype=torch.int64))
        return [
            Shown(
                image, examples.names[row], int(predictions.labels[row]), int(predicted[row]), float(confidences[row])
            )
            for row, image in zip(rows, images, strict=True)
        ]

    half = _NUM_HEATED // 2
    heated = show([*mistakes[:half], *right[: max(half, _NUM_HEATED - len(mistakes))]])
    check_stop()
    return Evidence(
        part,
        mistakes=show(mistakes),
        heated=ask_where(heated, classifier, format_, device),
        feature_map=_map(classifier, examples, format_, device, check_stop),
    )


def judged(predictions: Mapping[Part, object]) -> Part | None:
    """The part a run is judged by: test where there is one, else validation; None without either."""
    return next((part for part in reversed(HELD_OUT) if part in predictions), None)


def describe_calibration(predictions: Mapping[Part, Predictions]) -> dict[str, Any] | None:
    """Calibration as plain Python: error, bins with intervals, and the error after temperature scaling.

    The temperature is fitted on validation, and so only where the part judged is another one.

    Returns:
        None when nothing was held out, or a logit is not finite and nothing can be said.
    """
    part = judged(predictions)
    if part is None or not all(one.logits.isfinite().all() for one in predictions.values()):
        return None
    found = _error(predictions[part], 1.0)
    described: dict[str, Any] = {"part": part, "num_examples": len(predictions[part].labels), "error": found.error}
    if part != "validation" and "validation" in predictions:
        validation = predictions["validation"]
        temperature = fit_temperature(validation.logits.numpy(), validation.labels.numpy())
        described |= {
            "temperature": temperature,
            "scaled_error": _error(predictions[part], temperature).error,
            "num_validation": len(validation.labels),
        }
    return described | {"bins": _bins(found)}


def project(features: Tensor) -> tuple[Tensor, tuple[float, float]] | None:
    """Principal components: float (N, D) to float64 (N, 2) and the share of variance of each; None below 3 rows."""
    if len(features) < 3 or features.shape[1] < 2 or not features.isfinite().all():
        return None
    centred = features.double().cpu() - features.double().cpu().mean(dim=0)
    _, lengths, directions = torch.linalg.svd(centred, full_matrices=False)
    variances = lengths.square()
    # A direction has no sign of its own: the largest entry is made positive, so that a page comes out the same again.
    signs = directions[:2].gather(1, directions[:2].abs().argmax(dim=1, keepdim=True)).sign()
    shares = (variances[:2] / variances.sum().clamp(min=1e-300)).tolist()
    return centred @ (directions[:2] * signs).T, (shares[0], shares[1])


def _most_confident(confidences: Tensor, chosen: Tensor) -> list[int]:
    order = confidences.argsort(descending=True, stable=True)
    rows: list[int] = order[chosen[order]].tolist()
    return rows


def _one_of_each_class(rows: Sequence[int], predicted: Tensor) -> list[int]:
    """The first row of each class, then the others."""
    first = {int(predicted[row]): row for row in reversed(rows)}
    return sorted(rows, key=lambda row: first[int(predicted[row])] != row)


def ask_where(shown: Sequence[Shown], classifier: Classifier, format_: Format, device: torch.device) -> list[Shown]:
    """The same with what spoke for `predicted` in each; none of them where the backbone gives none."""
    if not shown:
        return []
    classifier.eval()
    images = format_.normalize(torch.stack([one.image for one in shown]).to(device))
    heat = grad_cam(classifier, images, torch.tensor([one.predicted for one in shown], device=device))
    if heat is None:
        return []
    return [replace(one, heat=warmth) for one, warmth in zip(shown, heat, strict=True)]


def _map(
    classifier: Classifier,
    examples: Examples,
    format_: Format,
    device: torch.device,
    check_stop: Callable[[], None],
) -> FeatureMap | None:
    """Of at most 600 images, spread evenly over the part."""
    rows = torch.linspace(0, len(examples) - 1, min(len(examples), _NUM_MAPPED)).round().long()
    some = Examples(ResidentImages(examples.images.take(rows)), examples.labels[rows], [""] * len(rows))
    found = project(features_of(classifier, some, format_, device, check_stop=check_stop))
    return FeatureMap(found[0], some.labels, found[1]) if found else None


def _error(predictions: Predictions, temperature: float) -> CalibrationError:
    confidences, predicted = predictions.confidences(temperature)
    return expected_calibration_error(confidences.numpy(), (predicted == predictions.labels).numpy())


def _bins(found: CalibrationError) -> list[dict[str, Any]]:
    bins = []
    for one in found.bins:
        if one.accuracy is not None:
            low, high = wilson_interval(round(one.accuracy * one.num_examples), one.num_examples)
            bins.append(
                {
                    "num_examples": one.num_examples,
                    "confidence": one.confidence,
                    "accuracy": one.accuracy,
                    "accuracy_low": low,
                    "accuracy_high": high,
                }
            )
    return bins
