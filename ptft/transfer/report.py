"""What became of every tensor of a transfer, and the sentences that tell it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Outcome = Literal["loaded", "adapted", "fresh", "refused", "unused"]

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
        loaded_fraction: share of the backbone's parameters, counted by element, that were loaded or adapted.
        stripped: wrapper words taken off the source's names, for example `_orig_mod.`.
        is_bare: the source names a backbone's tensors without `backbone.`, which was added.
        kept_classes: classes whose head row was kept, matched by name.
        lacks_statistics: the source has no batch-norm statistics for a backbone that needs them.
    """

    tensors: Sequence[TensorReport]
    loaded_fraction: float
    stripped: Sequence[str]
    is_bare: bool
    kept_classes: Sequence[str]
    lacks_statistics: bool = False

    def sentences(self) -> list[str]:
        """The report in short, for the console."""
        counts = Counter(tensor.outcome for tensor in self.tensors)
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        lines = [f"transfer: {percent(self.loaded_fraction)} of the backbone loaded ({told})."]
        if self.stripped:
            lines.append(f"transfer: took the wrapper prefix {' and '.join(self.stripped)} off the source's names.")
        if self.is_bare:
            lines.append("transfer: the source is a bare backbone; its names were put under backbone.")
        if self.kept_classes:
            lines.append(f"transfer: head rows kept by class name: {_listed(self.kept_classes)}.")
        return lines + [f"transfer: {line}" for line in self._remarkable()]

    def adapted(self) -> list[TensorReport]:
        """Tensors of the backbone that were changed on the way."""
        return [part for part in self.tensors if part.outcome == "adapted" and part.name.startswith("backbone.")]

    def _remarkable(self) -> list[str]:
        """A line for each tensor that was not simply loaded, one line for those that share a reason."""
        grouped: dict[tuple[str, str], list[str]] = {}
        for tensor in self.tensors:
            if tensor.outcome != "loaded":
                grouped.setdefault((tensor.outcome, tensor.reason), []).append(tensor.name)
        return [f"{outcome} {_listed(names)}: {reason}" for (outcome, reason), names in grouped.items()]


def refusal(reports: Sequence[TensorReport], unused: Sequence[TensorReport], fraction: float, least: float) -> str:
    """Why a transfer below the floor is refused, with both lists."""
    refused = [f"  {report.name}: {report.reason}" for report in reports if report.outcome == "refused"]
    left = [f"  {report.name}: {report.reason}" for report in unused]
    return "\n".join(
        [
            f"only {percent(fraction)} of the backbone could be loaded, transfer.min_loaded asks for {percent(least)}.",
            f"{len(refused)} tensors of the target without weights:",
            *_shorten(refused),
            f"{len(left)} tensors of the source without a place{':' if left else '.'}",
            *_shorten(left),
            "Use the source's model (leave out `model:`), another checkpoint, or a lower transfer.min_loaded.",
        ]
    )


def percent(share: float) -> str:
    """A share in [0, 1] in words."""
    return f"{100 * share:.1f} %"


def shape(tensor: Tensor) -> str:
    """The shape of a tensor in words."""
    return "×".join(map(str, tensor.shape)) or "scalar"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:_LISTED])} and {rest} more"


def _shorten(lines: list[str]) -> list[str]:
    rest = len(lines) - _LISTED
    return lines if rest <= 0 else [*lines[:_LISTED], f"  … and {rest} more"]
