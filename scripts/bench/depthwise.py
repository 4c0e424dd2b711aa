"""What it brings to compute depthwise convolutions in float32 where the rest of a network runs in bfloat16.

    python scripts/bench/depthwise.py [MODEL…] [--size PIXELS] [--batch-size N] [--rounds N]

Forward and backward passes of each model, by turns: bf16 as ptft computes it, bf16 with torch's own depthwise
convolutions, and fp32; all channels_last. Images a second, medians of the rounds.
"""

import argparse
import statistics
import time

import torch
from pydantic import TypeAdapter
from torch import nn
from torch.nn import functional

from ptft.allocator import keep_freed_memory
from ptft.models import Model
from ptft.models.classifier import Classifier
from ptft.models.depthwise import DepthwiseConv2d

MODELS = ("mobilenet_v3_small", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x1_0", "mnasnet1_0", "convnext_tiny")
_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    keep_freed_memory()  # as every command of ptft does
    images = torch.randn(given.batch_size, 3, given.size, given.size).to(memory_format=torch.channels_last)
    print("| model | bf16 | torch's bf16 | fp32 |\n|---|---|---|---|")
    for name in given.models:
        ways = {"bf16": (build(name), True), "torch": (build(name, plain=True), True), "fp32": (build(name), False)}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(given.rounds + 1):
            for way, (model, is_low) in ways.items():
                taken = time_of(model, images, is_low)
                if turn:  # the first round warms up
                    seconds[way].append(taken)
        speeds = (f"{given.batch_size / statistics.median(taken):,.0f}" for taken in seconds.values())
        print(f"| {name} | {' | '.join(speeds)} |", flush=True)


def build(name: str, *, plain: bool = False) -> Classifier:
    torch.manual_seed(0)
    config: Model = TypeAdapter(Model).validate_python({"name": name})
    model = config.build(2, 3)
    for part in model.modules() if plain else ():
        if type(part) is DepthwiseConv2d:
            part.__class__ = nn.Conv2d
    return model.to(memory_format=torch.channels_last)


def time_of(model: Classifier, images: torch.Tensor, is_low: bool) -> float:
    """Seconds of one forward and backward pass."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    start = time.perf_counter()
    for _ in range(_STEPS):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_low):
            logits = model(images)
        functional.cross_entropy(logits.float(), labels).backward()
        model.zero_grad(set_to_none=True)
    return (time.perf_counter() - start) / _STEPS


if __name__ == "__main__":
    main()
