"""Head rows by class name: never by count or position."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ptft.models.classifier import Classifier
from ptft.transfer.report import TensorReport

_NAMES = ("head.weight", "head.bias")


def load_head(
    classifier: Classifier, source: Mapping[str, Tensor], source_classes: Sequence[str], target_classes: Sequence[str]
) -> tuple[list[TensorReport], list[str]]:
    """Copies the head rows of the classes that both tasks have, in place.

    Args:
        classifier: the target.
        source: tensors; the head is `head.weight` (K, D) and `head.bias` (K,).
        source_classes: names of the source head's K rows; empty when they are not known. A name that stands for
            several rows keeps none of them.
        target_classes: names of the target head's rows.

    Returns:
        A report for the head's weight and bias, and the classes whose row was kept.
    """
    weight, bias = source.get("head.weight"), source.get("head.bias")
    reason = _why_not(classifier, weight, bias, source_classes)
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
    return [TensorReport(name, "adapted", words) for name in _NAMES], kept


def _why_not(classifier: Classifier, weight: Tensor | None, bias: Tensor | None, source_classes: Sequence[str]) -> str:
    if weight is None or bias is None:
        return "the source has none that fits" if source_classes else "the source has none"
    if not source_classes:
        return "the source's class names are not known"
    expected = (len(source_classes), classifier.feature_dim)
    if weight.flatten(1).shape != expected or bias.shape != expected[:1]:
        return f"the source's is {' × '.join(map(str, weight.shape))}, not {expected[0]} × {expected[1]}"
    return ""


def _fresh(reason: str) -> list[TensorReport]:
    return [TensorReport(name, "fresh", reason) for name in _NAMES]
