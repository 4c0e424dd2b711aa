"""What torch.compile brings to a training step, and what it costs.

    python scripts/bench/compile.py [MODEL…] [--size PIXELS] [--batch-size N] [--rounds N] [--precision bf16]

Whole steps (forward, backward, SGD) of each model on a resident batch, channels_last, on the GPU where there is one:
eager and compiled by turns, medians of the rounds. The first compiled step is told apart; it needs a C++ compiler.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from pydantic import TypeAdapter
from torch import nn
from torch.nn import functional

from ptft.allocator import keep_freed_memory
from ptft.models import Model
from ptft.runtime import autocast, pick_device

MODELS = ("small-cnn", "small-resnet", "resnet18", "mobilenet_v3_small")
_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    given = parser.parse_args()
    keep_freed_memory()  # as every command of ptft does
    print("| model | eager, images/s | compiled | times | first compiled step, s |\n|---|---|---|---|---|")
    for name in given.models:
        eager, compiled = (stepper(name, given, is_compiled=is_compiled) for is_compiled in (False, True))
        first = seconds_of(compiled, 1)
        seconds: dict[Callable[[], None], list[float]] = {eager: [], compiled: []}
        for turn in range(given.rounds + 1):
            for step, taken in seconds.items():
                spent = seconds_of(step, _STEPS)
                if turn:  # the first round warms up
                    taken.append(spent)
        of_eager, of_compiled = (given.batch_size / statistics.median(taken) for taken in seconds.values())
        print(
            f"| {name} | {of_eager:,.0f} | {of_compiled:,.0f} | {of_compiled / of_eager:.2f} | {first:.0f} |",
            flush=True,
        )


def stepper(name: str, given: argparse.Namespace, *, is_compiled: bool) -> Callable[[], None]:
    torch.manual_seed(0)
    device = pick_device("auto")
    config: Model = TypeAdapter(Model).validate_python({"name": name})
    network: nn.Module = config.build(10, 3).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)
    images = torch.randn(given.batch_size, 3, given.size, given.size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.zeros(given.batch_size, dtype=torch.int64, device=device)
    model = torch.compile(network) if is_compiled else network

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device, given.precision):
            logits = model(images)
        functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def seconds_of(step: Callable[[], None], number: int) -> float:
    """Seconds of one step, over so many."""
    start = time.perf_counter()
    for _ in range(number):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / number


if __name__ == "__main__":
    main()
