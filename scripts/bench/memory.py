"""Peak memory of a training run beside what it must hold.

    python scripts/bench/memory.py CONFIG [--set KEY=VALUE…]

What a run must hold: the images as uint8; model and optimizer, twice, as a checkpoint is made beside them; and what one
step keeps for its backward pass (every tensor that autograd saves, once each, at the precision that the run takes). The
run is `ptft pretrain` in a process of its own, of a few steps, with test, leak check and page; its peak is the kernel's
count of resident memory, mapped files included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from ptft.allocator import keep_freed_memory
from ptft.config.load import load
from ptft.report.console import Console
from ptft.run.assembly import Prepared
from ptft.run.preparation import prepare_pretrain
from ptft.run.surroundings import Surroundings
from ptft.settings import PretrainConfig
from ptft.train.solve import HeadSolver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    keep_freed_memory()
    sets = [*given.sets, "train.steps=6", "train.epochs=null"]
    peak = peak_of_run(given.config, sets)
    prepared = prepare_pretrain(load(given.config, PretrainConfig, sets), Surroundings.of(Console()))
    images = sum(image_bytes(prepared, part) for part in prepared.task.parts)
    weights = sum(tensor.nbytes for tensor in prepared.state.tensors().values())
    activations = saved_bytes(prepared)
    rest = peak - images - 2 * weights - activations
    for name, count in (
        ("peak of the process", peak),
        ("images, uint8", images),
        ("twice model and optimizer", 2 * weights),
        ("activations of a step", activations),
        ("all else", rest),
        ("`import torch` by itself", peak_of([sys.executable, "-c", "import torch"])),
    ):
        print(f"{name:<26} {count / 1e6:8,.0f} MB")


def peak_of_run(config: Path, sets: list[str]) -> int:
    """Bytes of the largest resident memory of a run."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        command = [sys.executable, "-m", "ptft", "pretrain", str(config), "--out", str(out), "--json"]
        command += [word for one in sets for word in ("--set", one)]
        peak = peak_of(command)
        assert json.loads((out / "status.json").read_text())["state"] == "done"
        return peak


# Linux counts what the process that starts another has in memory as that one's, so a small one starts it.
_STARTER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def peak_of(command: list[str]) -> int:
    """Bytes of the largest resident memory of a process that ends well."""
    done = subprocess.run([sys.executable, "-S", "-c", _STARTER, *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return 1024 * int(done.stdout)


def image_bytes(prepared: Prepared, part: str) -> int:
    size, channels = prepared.task.format.image_size, prepared.task.format.in_channels
    return len(prepared.task.parts[part]) * channels * size**2  # type: ignore[index]


def saved_bytes(prepared: Prepared) -> int:
    """Of the storages that a step keeps for its backward pass, each once, but for the parameters."""
    assert not isinstance(prepared.stepper, HeadSolver)
    own = {tensor.untyped_storage().data_ptr() for tensor in prepared.classifier.parameters()}
    found: dict[int, int] = {}
    kept: list[Tensor] = []  # alive, lest an address be used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        prepared.stepper.step(prepared.state, prepared.batches.at(0), 1e-3)
    return sum(found.values())


if __name__ == "__main__":
    main()
