"""Source weights into a target classifier, tensor by tensor, with a report that hides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ptft.errors import TransferError
from ptft.models.classifier import Classifier
from ptft.transfer.adapt import adapt, stem_of
from ptft.transfer.head import load_head
from ptft.transfer.names import unwrap
from ptft.transfer.report import TensorReport, TransferReport, refusal, shape

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class _Match:
    """A tensor of the target and what it gets: the source's values in its shape, or nothing."""

    report: TensorReport
    values: Tensor | None = None


def transfer(
    classifier: Classifier,
    weights: Mapping[str, Tensor],
    *,
    source_classes: Sequence[str],
    target_classes: Sequence[str],
    min_loaded: float,
    other_task: str = "",
) -> TransferReport:
    """Loads source weights into `classifier`, in place.

    Backbone tensors are matched by name and shape, head rows by class name: never by position or count. Wrapper
    words are taken off, and a bare backbone's state dict is recognised. An adapted tensor counts as loaded: it
    holds what the source learnt, and the report names it apart.

    Args:
        classifier: the target, with random weights; its head has one row for each target class.
        weights: source tensors by name, `backbone.*` and `head.*`, perhaps wrapped.
        source_classes: names of the source head's rows; empty when they are not known.
        target_classes: names of the target head's rows.
        min_loaded: smallest share of the backbone to accept, in [0, 1].
        other_task: name of the source's kind of task where the target's is another.

    Raises:
        TransferError: less than `min_loaded` of the backbone was loaded; the classifier is untouched.
    """
    source, stripped = unwrap(weights)
    is_bare = not any(name.startswith("backbone.") for name in source)
    if is_bare:
        own = classifier.backbone.state_dict().keys()
        source = {f"backbone.{name}" if name in own else name: tensor for name, tensor in source.items()}
    target = classifier.state_dict()
    stem = f"backbone.{stem_of(classifier.backbone)}"
    backbone = {name: tensor for name, tensor in target.items() if name.startswith("backbone.")}
    matches = [_match(name, tensor, source.get(name), name == stem) for name, tensor in backbone.items()]
    reports = [match.report for match in matches]
    fraction = _share(classifier, reports)
    unused = [
        TensorReport(name, "unused", f"{shape(tensor)}: the target has no such tensor")
        for name, tensor in source.items()
        if name not in target
    ]
    if fraction < min_loaded:
        raise TransferError(refusal(reports, unused, fraction, min_loaded))
    with torch.no_grad():
        for match in matches:
            if match.values is not None:
                target[match.report.name].copy_(match.values)
    head, kept = load_head(classifier, source, source_classes, target_classes, other_task)
    lacks_statistics = any(match.values is None and match.report.name.endswith(_STATISTICS) for match in matches)
    reports = [_allowed(report, min_loaded) for report in reports]
    return TransferReport([*reports, *head, *unused], fraction, stripped, is_bare, kept, lacks_statistics)


def _match(name: str, target: Tensor, source: Tensor | None, is_stem: bool) -> _Match:
    if source is None:
        if name.endswith("num_batches_tracked"):
            reason = "the source counts no batches; the counter starts at 0, and nothing depends on it"
            return _Match(TensorReport(name, "fresh", reason))
        return _Match(TensorReport(name, "refused", f"{shape(target)}: the source has no such tensor"))
    if not bool(torch.isfinite(source).all()):
        return _Match(TensorReport(name, "refused", "the source's values are not finite (NaN or infinity)"))
    if source.shape == target.shape:
        return _Match(TensorReport(name, "loaded"), source)
    if adapted := adapt(source, target, is_stem=is_stem):
        values, reason = adapted
        return _Match(TensorReport(name, "adapted", reason), values)
    return _Match(TensorReport(name, "refused", f"the source has {shape(source)}, the target {shape(target)}"))


def _share(classifier: Classifier, reports: Sequence[TensorReport]) -> float:
    """Share of the backbone's parameters, by element, that were loaded or adapted."""
    sizes = {f"backbone.{name}": tensor.numel() for name, tensor in classifier.backbone.named_parameters()}
    taken = sum(sizes.get(report.name, 0) for report in reports if report.outcome in ("loaded", "adapted"))
    return taken / sum(sizes.values())


def _allowed(report: TensorReport, min_loaded: float) -> TensorReport:
    if report.outcome != "refused":
        return report
    return TensorReport(report.name, "fresh", f"{report.reason}; allowed by transfer.min_loaded: {min_loaded}")
