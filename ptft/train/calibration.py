"""Which precision and memory format run fastest here: measured on a copy of the model, not assumed."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from ptft.models.classifier import Classifier
from ptft.runtime import Precision, autocast

MemoryFormat = Literal["contiguous", "channels_last"]

TORCH_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

_SECONDS = 0.4
_MAX_ELEMENTS = 1 << 22
# Low precision must earn its place: with less gain than this, fp32 stays.
_WORTHWHILE = 0.9


@dataclass(frozen=True)
class Choice:
    """One way to compute a step.

    Attributes:
        precision: of the forward pass.
        memory_format: of model and images.
        seconds: of one forward and backward pass; NaN when not measured.
    """

    precision: Precision
    memory_format: MemoryFormat
    seconds: float


def calibrate(
    classifier: Classifier,
    shape: tuple[int, int, int, int],
    device: torch.device,
    precision: Precision | Literal["auto"],
    memory_format: MemoryFormat | Literal["auto"],
    check_stop: Callable[[], None] = lambda: None,
) -> tuple[Choice, str]:
    """The fastest choice among those that the config leaves open; about two seconds.

    Args:
        classifier: on `device`; copied, not changed.
        shape: (B, C, H, W) of a micro-batch; fewer images are timed when these are large.
        device: to compute on.
        precision: fixed, or `auto` for fp32 or bf16 (which must be at least a tenth faster than fp32).
        memory_format: fixed, or `auto` for either.
        check_stop: called before each pass; raises when a signal asked to stop.

    Returns:
        The choice, and a sentence with the measured speeds (empty when nothing was open).
    """
    precisions: list[Precision] = ["fp32", "bf16"] if precision == "auto" else [precision]
    formats: list[MemoryFormat] = ["contiguous", "channels_last"] if memory_format == "auto" else [memory_format]
    if len(precisions) * len(formats) == 1:
        return Choice(precisions[0], formats[0], float("nan")), ""
    size = min(shape[0], max(4, _MAX_ELEMENTS // (shape[1] * shape[2] * shape[3])))
    images = torch.randn(size, *shape[1:], device=device)
    choices = [Choice(p, f, _time(classifier, images, device, p, f, check_stop)) for p in precisions for f in formats]
    fastest = {p: min((c for c in choices if c.precision == p), key=lambda c: c.seconds) for p in precisions}
    best = fastest[precisions[0]]
    if precision == "auto" and fastest["bf16"].seconds < _WORTHWHILE * fastest["fp32"].seconds:
        best = fastest["bf16"]
    speeds = ", ".join(f"{c.precision} {c.memory_format} {size / c.seconds:,.0f}" for c in choices)
    return best, f"calibration: {best.precision}, {best.memory_format} (images/s forward and back: {speeds})."


def _time(
    classifier: Classifier,
    images: torch.Tensor,
    device: torch.device,
    precision: Precision,
    format_: MemoryFormat,
    check_stop: Callable[[], None],
) -> float:
    """Shortest of several timed passes, in seconds, after one that is not counted."""
    memory_format = TORCH_FORMATS[format_]
    model = copy.deepcopy(classifier).to(memory_format=memory_format).train()
    labels = torch.zeros(len(images), dtype=torch.int64, device=device)
    shortest, begun, passes = float("inf"), time.perf_counter(), 0
    while passes < 2 or (passes < 20 and time.perf_counter() - begun < _SECONDS):
        check_stop()
        start = time.perf_counter()
        with autocast(device, precision):
            logits = model(images.contiguous(memory_format=memory_format))
        functional.cross_entropy(logits.float(), labels).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if passes:
            shortest = min(shortest, time.perf_counter() - start)
        passes += 1
    return shortest
