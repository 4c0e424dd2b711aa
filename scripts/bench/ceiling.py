"""Which share of the hardware's speed training reaches: ptft's steps beside the same model on one resident batch.

    python scripts/bench/ceiling.py CONFIG [--set KEY=VALUE…] [--steps N] [--rounds N]

Four loops over the same model, batch size, precision, memory format and optimizer, by turns, in this process:

- ceiling: forward, cross entropy, backward, optimizer; always the same images, normalised before the first step.
- step: ptft's step (checks of loss and gradient, averages, learning rates) on one batch of ptft's.
- whole: the same with a new batch each time: images taken from the store, augmented, normalised.
- ahead: as whole, with the next batch made by a thread meanwhile. `ptft.data.ahead` says where a run does so.

Images a second, the median of the rounds; the share of the ceiling, the median over the rounds of the ratio within one,
as a machine's speed drifts, with its 95 % interval; and which share of the last two is waiting for batches. Many short
rounds tell more than a few long ones.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

from ptft.allocator import keep_freed_memory
from ptft.config.load import load
from ptft.data.ahead import Ahead
from ptft.data.batches import Batch
from ptft.report.console import Console
from ptft.run.assembly import Prepared
from ptft.run.preparation import prepare_pretrain
from ptft.run.surroundings import Surroundings
from ptft.runtime import autocast
from ptft.settings import PretrainConfig
from ptft.train.solve import HeadSolver

LR = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=120)
    arguments = parser.parse_args()
    keep_freed_memory()  # as every command of ptft does
    prepared = prepare_pretrain(load(arguments.config, PretrainConfig, arguments.sets), Surroundings.of(Console()))
    batches = prepared.batches.made_at_once if isinstance(prepared.batches, Ahead) else prepared.batches
    ahead, fixed = Ahead(batches), batches.at(0)
    loops: dict[str, Callable[[int], None]] = {
        "ceiling": lambda _: plain_step(prepared, fixed),
        "step": lambda _: own_step(prepared, fixed),
        "whole": lambda step: own_step(prepared, batches.at(step)),
        "ahead": lambda step: own_step(prepared, ahead.at(step)),
    }
    waited: dict[str, list[float]] = {name: [] for name in loops}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(arguments.rounds + 1):
        for name, loop in loops.items():
            batches.seconds = ahead.seconds = 0.0
            taken = time_of(loop, arguments.steps, number * arguments.steps)
            if number:  # the first round warms up
                seconds[name].append(taken)
                waited[name].append((ahead if name == "ahead" else batches).seconds / taken)
    for name, taken in seconds.items():
        speed = arguments.steps * prepared.batch_size / statistics.median(taken)
        shares = sorted(100 * best / own for best, own in zip(seconds["ceiling"], taken, strict=True))
        low, high = interval_of_median(shares)
        share = f"{statistics.median(shares):6.1f} % of the ceiling ({low:.1f} to {high:.1f})"
        print(f"{name:<8} {speed:10,.0f} images/s  {share}")
    told = ", ".join(f"{100 * statistics.median(waited[name]):.1f} % of {name}" for name in ("whole", "ahead"))
    print(f"waiting for batches: {told}")


def interval_of_median(ordered: list[float]) -> tuple[float, float]:
    """The two of the ordered values between which their median lies with 95 % confidence, by the binomial's normal."""
    middle, half = (len(ordered) - 1) / 2, 0.98 * len(ordered) ** 0.5
    return ordered[max(0, int(middle - half))], ordered[min(len(ordered) - 1, round(middle + half + 0.5))]


def time_of(loop: Callable[[int], None], steps: int, first: int) -> float:
    start = time.perf_counter()
    for step in range(first, first + steps):
        loop(step)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def plain_step(prepared: Prepared, batch: Batch) -> None:
    assert not isinstance(prepared.stepper, HeadSolver)
    images = batch.images.contiguous(memory_format=prepared.stepper.memory_format)
    with autocast(prepared.device, prepared.stepper.precision):
        logits = prepared.classifier(images)
    functional.cross_entropy(logits.float(), batch.labels).backward()
    prepared.state.optimizer.step()
    prepared.state.optimizer.zero_grad(set_to_none=True)


def own_step(prepared: Prepared, batch: Batch) -> None:
    loss, _ = prepared.stepper.step(prepared.state, batch, LR)
    if prepared.device.type == "cpu":
        loss.item()


if __name__ == "__main__":
    main()
