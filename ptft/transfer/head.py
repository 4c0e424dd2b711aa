"""Head rows by class name: never by count or position."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ptft.data.labelling import Scale
from ptft.models.classifier import Classifier
from ptft.transfer.report import TensorReport

RowsKept = Literal["all", "some", "none"]
"""Of how many of the target's classes the source's head has the rows."""

# Runs keep this sentence, and are asked for it when they go on: it must not change.
REORDERED = "every row kept by class name, in the order of this task's classes"
_NAMES = ("head.weight", "head.bias")


def load_head(
    classifier: Classifier,
    source: Mapping[str, Tensor],
    source_classes: Sequence[str],
    target_classes: Sequence[str],
    other_task: str = "",
) -> tuple[list[TensorReport], list[str]]:
    """Copies the head rows of the classes that both tasks have, in place.

    Args:
        classifier: the target.
        source: tensors; the head is `head.weight` (K, D) and `head.bias` (K,).
        source_classes: names of the source head's K rows; empty when they are not known. A name that stands for
            several rows keeps none of them.
        target_classes: names of the target head's rows.
        other_task: name of the source's kind of task where the target's is another: no row is kept. A row of a softmax
            says which class is likelier than the others (the same vector added to all rows changes nothing), one of a
            sigmoid whether the class is there, one of a regression how much.

    Returns:
        A report for the head's weight and bias, and the classes whose row was kept.
    """
    weight, bias = source.get("head.weight"), source.get("head.bias")
    reason = _why_not(classifier, weight, bias, source_classes)
    if other_task and weight is not None:
        reason = f"the source's is of a {other_task} task: its rows mean something else"
    if reason or weight is None or bias is None:
        return _fresh(f"a new head for the target's classes ({reason})"), []
    counts = Counter(source_classes)
    rows = {name: row for row, name in enumerate(source_classes) if counts[name] == 1}
    kept = [name for name in target_classes if name in rows]
    with torch.no_grad():
        for place, name in enumerate(target_classes):
            if name in rows:
                classifier.head.weight[place] = weight[rows[name]].flatten()
                classifier.head.bias[place] = bias[rows[name]]
    if not kept:
        return _fresh(f"a new head for {len(target_classes)} classes, none of which the source knows"), []
    if tuple(source_classes) == tuple(target_classes) == tuple(kept):
        return [TensorReport(name, "loaded") for name in _NAMES], kept
    words = f"{len(kept)} of {len(target_classes)} rows kept by class name, the others fresh"
    if len(kept) == len(target_classes):
        words = REORDERED
    return [TensorReport(name, "adapted", words) for name in _NAMES], kept


def rescaled_head(
    tensors: Mapping[str, Tensor], source: tuple[Sequence[str], Scale], target: tuple[Sequence[str], Scale]
) -> tuple[Mapping[str, Tensor], str]:
    """Rows of a regression's head, moved from the source's standard deviations and means to the target's, by name.

    So a row that is kept predicts the same number, in the target's own unit, as it did.

    Args:
        tensors: of the source.
        source, target: names of the rows, and the scale of each.

    Returns:
        The tensors with another head, and a sentence about it; as they are where no name is shared or no head fits.
    """
    (names, own), (others, new) = source, target
    weight, bias = tensors.get("head.weight"), tensors.get("head.bias")
    shared = [name for name in names if name in others]
    if weight is None or bias is None or len(weight) != len(names) or len(bias) != len(names) or not shared:
        return tensors, ""
    weight, bias = weight.double().clone(), bias.double().clone()
    for row, name in enumerate(names):
        if name in shared:
            place = list(others).index(name)
            weight[row] *= own.std[row] / new.std[place]
            bias[row] = (bias[row] * own.std[row] + own.mean[row] - new.mean[place]) / new.std[place]
    head = {"head.weight": weight.float(), "head.bias": bias.float()}
    told = f"adapted: the head's rows of {', '.join(shared)} now count in the training images' standard deviations."
    return {**tensors, **head}, told


def _why_not(classifier: Classifier, weight: Tensor | None, bias: Tensor | None, source_classes: Sequence[str]) -> str:
    if weight is None or bias is None:
        return "the source has none that fits" if source_classes else "the source has none"
    if not source_classes:
        return "the source's class names are not known"
    if not bool(weight.isfinite().all() and bias.isfinite().all()):
        return "the source's values are not finite (NaN or infinity)"
    expected = (len(source_classes), classifier.feature_dim)
    if weight.flatten(1).shape != expected or bias.shape != expected[:1]:
        return f"the source's is {' × '.join(map(str, weight.shape))}, not {expected[0]} × {expected[1]}"
    return ""


def _fresh(reason: str) -> list[TensorReport]:
    return [TensorReport(name, "fresh", reason) for name in _NAMES]
