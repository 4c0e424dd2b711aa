"""Speed on a GPU. Written without one: neither part has been run yet.

    python scripts/bench/gpu.py airbench CHECKOUT ROOT [--config FILE] [--set KEY=VALUE…] [--times N]
    python scripts/bench/gpu.py resnet50 [--batch-size N] [--steps N] [--rounds N]

airbench: a run of ptft against airbench94.py, by turns, on the same CIFAR-10 files. CHECKOUT is a clone of
https://github.com/KellerJordan/cifar10-airbench, ROOT holds the files of torchvision's CIFAR10. Seconds are those that
each tool counts itself: airbench its whitening, steps and augmented test, in the second run of a process, so that the
GPU is warm; ptft its steps, looks at validation and checkpoints, in a process of its own, cold. Medians.

resnet50: ptft's step at 224 px (train.compile), with a new batch of resident images each time, beside the plain step of
the same network compiled by torch, always on the same images; bf16, channels_last. Medians of the rounds.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from ceiling import own_step, time_of
from PIL import Image
from torch.nn import functional
from torchvision.datasets import CIFAR10

from ptft.augment import Standard
from ptft.data.sources import Folder
from ptft.models import TorchvisionCnn
from ptft.report.console import Console
from ptft.run.assembly import Prepared
from ptft.run.preparation import prepare_pretrain
from ptft.run.surroundings import Surroundings
from ptft.runtime import autocast
from ptft.settings import PretrainConfig, TrainConfig

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "cifar10-speedrun.yaml"
AIRBENCH = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/legacy"]
import airbench94
for run in range(int(sys.argv[2])):
    airbench94.main(run)
"""
NUM_IMAGES = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    airbench = parts.add_parser("airbench")
    airbench.set_defaults(measure=against_airbench)
    airbench.add_argument("checkout", type=Path)
    airbench.add_argument("root", type=Path)
    airbench.add_argument("--config", type=Path, default=CONFIG)
    airbench.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    airbench.add_argument("--times", type=int, default=5)
    resnet50 = parts.add_parser("resnet50")
    resnet50.set_defaults(measure=share_of_compiled)
    resnet50.add_argument("--batch-size", type=int, default=256)
    resnet50.add_argument("--steps", type=int, default=50)
    resnet50.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu.py: torch sees no GPU here.")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    given.measure(given)


def against_airbench(given: argparse.Namespace) -> None:
    runs: dict[str, list[tuple[float, float]]] = {"airbench94": [], "ptft": []}
    with tempfile.TemporaryDirectory() as place:
        write_for_airbench(given.root, Path(place) / "cifar10")
        for number in range(given.times):
            runs["airbench94"].append(airbench_run(given.checkout, Path(place)))
            runs["ptft"].append(own_run(given, Path(place), number))
            print(f"round {number}: {runs['airbench94'][-1]}, {runs['ptft'][-1]}", file=sys.stderr)
    median = {name: [statistics.median(column) for column in zip(*found, strict=True)] for name, found in runs.items()}
    for name, (seconds, top1) in median.items():
        print(f"{name:<10} {seconds:6.2f} s  {100 * top1:.2f} %")
    (theirs, goal), (ours, reached) = median["airbench94"], median["ptft"]
    told = "reached" if reached >= goal else "NOT REACHED: the times cannot be compared"
    print(f"ptft takes {ours / theirs:.2f} of airbench94's time; its accuracy is {told}.")


def write_for_airbench(root: Path, folder: Path) -> None:
    """The two files that airbench94.py makes of a download and else looks for."""
    folder.mkdir()
    for part in ("train", "test"):
        found = CIFAR10(str(root), train=part == "train")
        content = {"images": torch.tensor(found.data), "labels": torch.tensor(found.targets), "classes": found.classes}
        torch.save(content, folder / f"{part}.pt")


def airbench_run(checkout: Path, folder: Path) -> tuple[float, float]:
    """Seconds and accuracy of a second run in a process; it prints one row of a table for each."""
    command = [sys.executable, "-c", AIRBENCH, str(checkout.resolve()), "2"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in output(command, folder).splitlines()]
    *_, top1, seconds = [row for row in rows if len(row) > 2 and row[1] == "eval"][-1]
    return float(seconds), float(top1)


def own_run(given: argparse.Namespace, folder: Path, number: int) -> tuple[float, float]:
    data = json.dumps({"name": "torchvision", "dataset": "CIFAR10", "root": str(given.root.resolve())})
    sets = [f"data={data}", f"seed={number}", "device=cuda", *given.sets]
    flags = [flag for one in sets for flag in ("--set", one)]
    base = [sys.executable, "-m", "ptft", "pretrain", str(given.config.resolve()), "--json"]
    result = json.loads(output([*base, "--out", f"run-{number}", *flags], folder))
    return result["seconds"], result["test"]["top1"]


def output(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def share_of_compiled(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as place:
        prepared = prepare_pretrain(resnet50_config(Path(place), given.batch_size), Surroundings.of(Console()))
        plain = compiled_step(prepared)
        loops = {"compiled": plain, "ptft": lambda step: own_step(prepared, prepared.batches.at(step))}
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for number in range(given.rounds + 1):
            for name, loop in loops.items():
                taken = time_of(loop, given.steps, number * given.steps)
                if number:  # the first round warms up, and compiles
                    seconds[name].append(taken)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    for name, taken in median.items():
        print(f"{name:<10} {given.steps * given.batch_size / taken:8,.0f} images/s")
    print(f"ptft reaches {100 * median['compiled'] / median['ptft']:.1f} % of the compiled step's speed.")


def resnet50_config(folder: Path, batch_size: int) -> PretrainConfig:
    """Two classes of noise at 224 px."""
    rng = np.random.default_rng(0)
    for index in range(NUM_IMAGES):
        path = folder / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(path)
    train = TrainConfig(
        steps=10_000, batch_size=batch_size, precision="bf16", memory_format="channels_last", compile=True
    )
    return PretrainConfig(
        data=Folder(name="folder", root=str(folder)),
        augment=Standard(name="standard"),
        model=TorchvisionCnn(name="resnet50"),
        train=train,
        device="cuda",
    )


def compiled_step(prepared: Prepared):
    """The plain step of a copy of the network, on one batch that stays."""
    model, batch = copy.deepcopy(prepared.classifier), prepared.batches.at(0)
    optimizer = prepared.config.optim.build(model, ())
    images = batch.images.contiguous(memory_format=torch.channels_last)
    forward = torch.compile(model)

    def step(_: int) -> None:
        with autocast(prepared.device, "bf16"):
            logits = forward(images)
        functional.cross_entropy(logits.float(), batch.labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


if __name__ == "__main__":
    main()
