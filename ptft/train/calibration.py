"""Which precision and memory format run fastest here: measured on a copy of the model, not assumed."""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch.nn import functional

from ptft.data.cache import Cache
from ptft.models.classifier import Classifier
from ptft.runtime import Precision, autocast, computes_bf16, machine, waited_seconds

MemoryFormat = Literal["contiguous", "channels_last"]

TORCH_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

# To be counted up when what is measured changes.
_VERSION = 1
_SECONDS = 0.3
_MAX_ELEMENTS = 1 << 22
# Share of the time spent waiting for a processor from which on a speed says nothing about the machine.
_DISTURBED = 0.2
# Low precision must earn its place: with less gain than this, fp32 stays.
_WORTHWHILE = 0.9
# So many times as slow as the best so far, after this many timed passes, nothing more need be known.
_HOPELESS, _FEWEST = 1.3, 3


@dataclass(frozen=True)
class Choice:
    """One way to compute a step.

    Attributes:
        precision: of the forward pass.
        memory_format: of model and images.
    """

    precision: Precision
    memory_format: MemoryFormat


def calibrate(
    classifier: Classifier,
    shape: tuple[int, int, int, int],
    device: torch.device,
    precision: Precision | Literal["auto"],
    memory_format: MemoryFormat | Literal["auto"],
    check_stop: Callable[[], None] = lambda: None,
    cache: Cache | None = None,
) -> tuple[Choice, str]:
    """The fastest choice among those that the config leaves open; about a second, unless it was measured earlier.

    Args:
        classifier: on `device`; copied, not changed.
        shape: (B, C, H, W) of a micro-batch; fewer images are timed when these are large.
        device: to compute on.
        precision: fixed, or `auto` for fp32 or, where the device computes in it, bf16 (which must be at least a tenth
            faster than fp32).
        memory_format: fixed, or `auto` for either.
        check_stop: called before each pass; raises when a signal asked to stop.
        cache: remembers the times of this model, these images and this machine; None measures anew.

    Returns:
        The choice, and a sentence with the measured speeds (empty when nothing was open).
    """
    precisions: list[Precision] = ["fp32", "bf16"] if precision == "auto" else [precision]
    missing = ""
    if precision == "auto" and not computes_bf16(device):
        precisions, missing = ["fp32"], "; no bf16 on this " + ("GPU" if device.type == "cuda" else "processor")
    formats: list[MemoryFormat] = ["contiguous", "channels_last"] if memory_format == "auto" else [memory_format]
    choices = [Choice(*way) for way in product(precisions, formats)]
    if len(choices) == 1:
        return choices[0], ""
    # At least two: the copy that is timed has batch norm take their statistics, also where the run holds them.
    size = min(max(shape[0], 2), max(4, _MAX_ELEMENTS // (shape[1] * shape[2] * shape[3])))
    what = repr(("calibration", _VERSION, repr(classifier), (size, *shape[1:]), precisions, formats, machine(device)))
    note, seconds = "; measured earlier", _recall(cache, what)
    if seconds is None:
        started, waited = time.perf_counter(), waited_seconds()
        images = torch.randn(size, *shape[1:], device=device)
        taken: dict[Choice, float] = {}
        for choice in reversed(choices):  # the likely best first
            too_long = _HOPELESS * min(taken.values(), default=float("inf"))
            taken[choice] = _time(classifier, images, device, choice, check_stop, too_long)
        seconds = [taken[choice] for choice in choices]
        note = _note(time.perf_counter() - started, waited_seconds() - waited)
        if cache is not None and not note:
            cache.remember(what, json.dumps(seconds).encode())
    times = dict(zip(choices, seconds, strict=True))
    fastest = {p: min((c for c in choices if c.precision == p), key=times.__getitem__) for p in precisions}
    best = fastest[precisions[0]]
    if len(precisions) == 2 and times[fastest["bf16"]] < _WORTHWHILE * times[fastest["fp32"]]:
        best = fastest["bf16"]
    speeds = ", ".join(f"{c.precision} {c.memory_format} {size / times[c]:,.0f}" for c in choices)
    return (
        best,
        f"calibration: {best.precision}, {best.memory_format} (images/s forward and back: {speeds}{missing}{note}).",
    )


def _note(wall: float, waited: float) -> str:
    """Empty when the threads of a measurement that took `wall` seconds had the processor to themselves.

    Args:
        wall: of the whole measurement.
        waited: for a processor, all threads together.
    """
    return "" if waited < _DISTURBED * wall else "; not remembered, other programs took the processor"


def _recall(cache: Cache | None, what: str) -> list[float] | None:
    """The seconds that were remembered; None where there are none."""
    value = cache.recall(what) if cache is not None else None
    return None if value is None else [float(seconds) for seconds in json.loads(value)]


def _time(
    classifier: Classifier,
    images: torch.Tensor,
    device: torch.device,
    choice: Choice,
    check_stop: Callable[[], None],
    too_long: float,
) -> float:
    """Shortest of several timed passes, in seconds, after one that is not counted; of three if they are `too_long`."""
    memory_format = TORCH_FORMATS[choice.memory_format]
    model = copy.deepcopy(classifier).to(memory_format=memory_format).train()
    labels = torch.zeros(len(images), dtype=torch.int64, device=device)
    shortest, begun, passes = float("inf"), time.perf_counter(), 0
    while passes < 2 or (passes < 20 and time.perf_counter() - begun < _SECONDS):
        check_stop()
        if passes > _FEWEST and shortest > too_long:
            break
        start = time.perf_counter()
        with autocast(device, choice.precision):
            logits = model(images.contiguous(memory_format=memory_format))
        functional.cross_entropy(logits.float(), labels).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if passes:
            shortest = min(shortest, time.perf_counter() - start)
        passes += 1
    return shortest
