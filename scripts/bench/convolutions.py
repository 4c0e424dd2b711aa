"""What it brings to compute convolutions otherwise than torch does where a network runs in bfloat16 on a CPU.

    python scripts/bench/convolutions.py [MODEL…] [--size PIXELS] [--batch-size N] [--rounds N]

Forward and backward passes of each model, by turns: bf16 as ptft computes it (depthwise convolutions in float32; on a
processor with matrix tiles small maps as `ptft.models.small_maps` says), bf16 with torch's own convolutions, and fp32;
all channels_last. Images a second, medians of the rounds, and the median ratio of the first to the second.
"""

import argparse
import statistics
import time

import torch
from peers import torchs_own
from pydantic import TypeAdapter
from torch.nn import functional

from ptft.allocator import keep_freed_memory
from ptft.models import Model
from ptft.models.classifier import Classifier

MODELS = ("resnet18", "resnet50", "mobilenet_v3_small", "mobilenet_v2", "efficientnet_b0", "convnext_tiny")
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
    print("| model | bf16 | torch's bf16 | fp32 | times torch's bf16 |\n|---|---|---|---|---|")
    for name in given.models:
        ways = {"bf16": (build(name), True), "torch": (build(name, plain=True), True), "fp32": (build(name), False)}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(given.rounds + 1):
            for way, (model, is_low) in ways.items():
                taken = time_of(model, images, is_low)
                if turn:  # the first round warms up
                    seconds[way].append(taken)
        speeds = (f"{given.batch_size / statistics.median(taken):,.0f}" for taken in seconds.values())
        times = statistics.median(theirs / own for own, theirs in zip(seconds["bf16"], seconds["torch"], strict=True))
        print(f"| {name} | {' | '.join(speeds)} | {times:.2f} |", flush=True)


def build(name: str, *, plain: bool = False) -> Classifier:
    torch.manual_seed(0)
    config: Model = TypeAdapter(Model).validate_python({"name": name})
    model = config.build(2, 3)
    return (torchs_own(model) if plain else model).to(memory_format=torch.channels_last)


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
