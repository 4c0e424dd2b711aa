"""Source weights into a target classifier, tensor by tensor, with a report that hides nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ptft.errors import TransferError
from ptft.models.classifier import Classifier

Outcome = Literal["loaded", "adapted", "fresh", "refused", "unused"]

# Words that wrappers put into tensor names: DistributedDataParallel and DataParallel, torch.compile.
_WRAPPERS = ("module", "_orig_mod")
_LISTED = 12


@dataclass(frozen=True)
class TensorReport:
    """What became of one tensor.

    Attributes:
        name: in the target classifier; for `unused` in the source.
        outcome: `loaded` as it is, `adapted` (how is in `reason`), `fresh` (random, allowed), `refused`
            (random, because the source does not fit), `unused` (in the source only).
        reason: why, in words; empty for `loaded`.
    """

    name: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class TransferReport:
    """What became of every tensor.

    Attributes:
        tensors: one entry for each tensor of the target, then the source's unused ones.
        loaded_fraction: share of the backbone's parameters, counted by element, that were loaded.
        stripped: wrapper words taken off the source's names, for example `_orig_mod.`.
        is_bare: the source names a backbone's tensors without `backbone.`, which was added.
        kept_classes: classes whose head row was kept, matched by name.
    """

    tensors: Sequence[TensorReport]
    loaded_fraction: float
    stripped: Sequence[str]
    is_bare: bool
    kept_classes: Sequence[str]

    def sentences(self) -> list[str]:
        """The report in short, for the console."""
        counts = Counter(tensor.outcome for tensor in self.tensors)
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        lines = [f"transfer: {_percent(self.loaded_fraction)} of the backbone loaded ({told})."]
        if self.stripped:
            lines.append(f"transfer: took the wrapper prefix {' and '.join(self.stripped)} off the source's names.")
        if self.is_bare:
            lines.append("transfer: the source is a bare backbone; its names were put under backbone.")
        if self.kept_classes:
            lines.append(f"transfer: head rows kept by class name: {', '.join(self.kept_classes)}.")
        lines += [f"transfer: {tensor.outcome} {tensor.name}: {tensor.reason}" for tensor in self._remarkable()]
        return lines

    def _remarkable(self) -> list[TensorReport]:
        return [tensor for tensor in self.tensors if tensor.outcome != "loaded"]


def transfer(
    classifier: Classifier,
    weights: Mapping[str, Tensor],
    *,
    source_classes: Sequence[str],
    target_classes: Sequence[str],
    min_loaded: float,
) -> TransferReport:
    """Loads source weights into `classifier`, in place.

    Backbone tensors are matched by name and shape, head rows by class name: never by position or count. Wrapper
    words are taken off, and a bare backbone's state dict is recognised.

    Args:
        classifier: the target, with random weights; its head has one row for each target class.
        weights: source tensors by name, `backbone.*` and `head.*`, perhaps wrapped.
        source_classes: names of the source head's rows; empty when they are not known.
        target_classes: names of the target head's rows.
        min_loaded: smallest share of the backbone to accept, in [0, 1].

    Raises:
        TransferError: less than `min_loaded` of the backbone was loaded; the classifier is untouched.
    """
    source, stripped = _unwrap(weights)
    is_bare = not any(name.startswith("backbone.") for name in source)
    if is_bare:
        own = classifier.backbone.state_dict().keys()
        source = {f"backbone.{name}" if name in own else name: tensor for name, tensor in source.items()}
    target = classifier.state_dict()
    backbone = {name: tensor for name, tensor in target.items() if name.startswith("backbone.")}
    reports = [_match(name, tensor, source.get(name)) for name, tensor in backbone.items()]
    sizes = {f"backbone.{name}": tensor.numel() for name, tensor in classifier.backbone.named_parameters()}
    loaded = sum(sizes.get(report.name, 0) for report in reports if report.outcome == "loaded")
    fraction = loaded / sum(sizes.values())
    unused = [
        TensorReport(name, "unused", f"{_shape(tensor)}: the target has no such tensor")
        for name, tensor in source.items()
        if name not in target
    ]
    if fraction < min_loaded:
        raise TransferError(_refusal(reports, unused, fraction, min_loaded))
    with torch.no_grad():
        for report in reports:
            if report.outcome == "loaded":
                target[report.name].copy_(source[report.name])
    head, kept = _load_head(classifier, source, source_classes, target_classes)
    allowed = [
        TensorReport(report.name, "fresh", f"{report.reason}; allowed by transfer.min_loaded: {min_loaded}")
        if report.outcome == "refused"
        else report
        for report in reports
    ]
    return TransferReport([*allowed, *head, *unused], fraction, stripped, is_bare, kept)


def _unwrap(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Source tensors without wrapper words in their names, and the words taken off.

    Raises:
        TransferError: two tensors would have the same name.
    """
    stripped: dict[str, None] = {}
    source: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        words = name.split(".")
        stripped |= {f"{word}.": None for word in words if word in _WRAPPERS}
        plain = ".".join(word for word in words if word not in _WRAPPERS)
        if plain in source:
            raise TransferError(f"the source has {plain} twice, with and without a wrapper prefix.")
        source[plain] = tensor
    return source, list(stripped)


def _match(name: str, target: Tensor, source: Tensor | None) -> TensorReport:
    if source is None:
        return TensorReport(name, "refused", f"{_shape(target)}: the source has no such tensor")
    if source.shape != target.shape:
        return TensorReport(name, "refused", f"the source has {_shape(source)}, the target {_shape(target)}")
    return TensorReport(name, "loaded")


def _load_head(
    classifier: Classifier,
    source: Mapping[str, Tensor],
    source_classes: Sequence[str],
    target_classes: Sequence[str],
) -> tuple[list[TensorReport], list[str]]:
    """Copies the head rows of classes that both tasks have."""
    weight, bias = source.get("head.weight"), source.get("head.bias")
    expected = (len(source_classes), classifier.feature_dim)
    names = ("head.weight", "head.bias")
    if weight is None or bias is None or not source_classes or weight.shape != expected:
        reason = "a new head for the target's classes (the source's class names are not known)"
        return [TensorReport(name, "fresh", reason) for name in names], []
    rows = {name: row for row, name in enumerate(source_classes)}
    kept = [name for name in target_classes if name in rows]
    with torch.no_grad():
        for place, name in enumerate(target_classes):
            if name in rows:
                classifier.head.weight[place] = weight[rows[name]]
                classifier.head.bias[place] = bias[rows[name]]
    if not kept:
        reason = f"a new head for {len(target_classes)} classes, none of which the source knows"
        return [TensorReport(name, "fresh", reason) for name in names], []
    if len(kept) == len(target_classes) and tuple(source_classes) == tuple(target_classes):
        return [TensorReport(name, "loaded") for name in names], kept
    reason = f"{len(kept)} of {len(target_classes)} rows kept by class name, the others fresh"
    return [TensorReport(name, "adapted", reason) for name in names], kept


def _refusal(
    reports: Sequence[TensorReport], unused: Sequence[TensorReport], fraction: float, min_loaded: float
) -> str:
    refused = [f"  {report.name}: {report.reason}" for report in reports if report.outcome == "refused"]
    left = [f"  {report.name}: {report.reason}" for report in unused]
    return "\n".join(
        [
            f"only {_percent(fraction)} of the backbone could be loaded, "
            f"transfer.min_loaded asks for {_percent(min_loaded)}.",
            f"{len(refused)} tensors of the target without weights:",
            *_shorten(refused),
            f"{len(left)} tensors of the source without a place:",
            *_shorten(left),
            "Use the source's model (leave out `model:`), another checkpoint, or a lower transfer.min_loaded.",
        ]
    )


def _shorten(lines: list[str]) -> list[str]:
    rest = len(lines) - _LISTED
    return lines if rest <= 0 else [*lines[:_LISTED], f"  … and {rest} more"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
