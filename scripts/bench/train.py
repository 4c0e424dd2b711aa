"""Training speed beside that of other tools: the same network, images, batches and epochs, in alternating order.

    python scripts/bench/train.py DIR [--epochs N] [--times N] [--peers NAME…] [--env DIR]
        [--model NAME] [--size PIXELS] [--batch-size N]

DIR has train and test folders with a folder of JPEG files for each class. The peers (a plain torch loop, timm's loader,
Lightning, the Trainer of Hugging Face, fastai) are installed by pip into an environment of their own, which sees the
torch of this one. Each peer runs its loop once with 0 and with 2 workers, in fp32 and bf16, with channels_last
(`--quick`: 0 workers only), and is then timed in its fastest way; with `--defaults` also in fp32, without workers and
channels_last. ptft runs as it is, precision auto, once with an empty cache and once with a filled one.
Seconds are of whole processes, from start to exit, with decoding, the test at the end and the weights on disk; ptft's
include the leak check and the page. The loop is training alone, with what the tool decodes meanwhile. Peak memory is of
the largest process. Medians, and how many times as fast ptft's first run is in the median round; the machine should do
nothing else.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PACKAGES = {
    "torch": [],
    "timm": ["timm"],
    "lightning": ["lightning"],
    "transformers": ["transformers", "accelerate"],
    "fastai": ["fastai"],
}


@dataclass
class Timed:
    """What was measured of one tool."""

    how: str
    runs: "list[Whole]" = field(default_factory=list)

    def median(self, key: str) -> float:
        return float(statistics.median(getattr(run, key) for run in self.runs))


@dataclass(frozen=True)
class Whole:
    """A whole process: from start to exit, its training loop, its accuracy, training images seen, largest memory."""

    seconds: float
    loop_seconds: float
    top1: float
    images: int
    peak_bytes: int


Run = Callable[[], Whole]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=list(PACKAGES), choices=list(PACKAGES))
    parser.add_argument("--env", type=Path, default=Path("runs/bench-env"))
    parser.add_argument("--model", default="small-cnn")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--defaults", action="store_true", help="time each peer at its defaults, too")
    parser.add_argument("--quick", action="store_true", help="try few settings of each peer")
    given = parser.parse_args()
    python = environment(given.env, given.peers)
    with tempfile.TemporaryDirectory() as place:
        runs = {f"ptft, {name}": own(given, Path(place), name) for name in ("first run", "later run")}
        timed = {name: Timed("precision auto") for name in runs}
        for peer in given.peers:
            way = fastest(given, python, peer)
            timed[peer], runs[peer] = Timed(" ".join(way)), partial(by_peer, given, python, peer, way)
            if given.defaults:
                name = f"{peer}, defaults"
                timed[name], runs[name] = Timed("fp32, no workers"), partial(by_peer, given, python, peer, [])
        for turn, name in itertools.product(range(given.times), runs):
            run = runs[name]()
            timed[name].runs.append(run)
            told = f"{run.seconds:.1f} s, loop {run.loop_seconds:.1f} s, {100 * run.top1:.1f} %"
            print(f"round {turn}: {name}: {told}", file=sys.stderr)
    tell(timed)


def environment(folder: Path, peers: list[str]) -> Path:
    """Python of the environment with the peers; it sees this one's packages, torch above all, and ptft."""
    python = folder.resolve() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        packages = next((folder / "lib").glob("python*")) / "site-packages"
        (packages / "of-ptft.pth").write_text(f"{sysconfig.get_path('purelib')}\n{HERE.parent.parent}\n")
    wanted = [package for peer in peers for package in PACKAGES[peer]]
    if wanted:
        kept = folder / "constraints.txt"
        kept.write_text("".join(f"{name}=={version(name).partition('+')[0]}\n" for name in ("torch", "torchvision")))
        subprocess.run([python, "-m", "pip", "install", "-q", "-c", kept, *wanted], check=True)
    return python


def own(given: argparse.Namespace, place: Path, name: str) -> Run:
    """ptft on the same images, its validation part made as small as it can be and looked at once."""
    config = place / "run.yaml"
    data = {"name": "folder", "root": str(given.data.resolve()), "validation": 0.0, "image_size": given.size}
    train = {"epochs": given.epochs, "batch_size": given.batch_size}
    config.write_text(json.dumps({"data": data, "model": {"name": given.model}, "train": train}))
    numbers = itertools.count()

    def run() -> Whole:
        number = next(numbers)
        cache = f"cache-{number}" if name == "first run" else "cache"
        command = [sys.executable, "-m", "ptft", "pretrain", "run.yaml", "--json", "--out", f"{name[:5]}-{number}"]
        seconds, peak, result = timed_json([*command, "--cache-dir", cache], place)
        (lineage,) = result["lineage"]
        images = lineage["data"]["num_examples"] * given.epochs
        return Whole(seconds, result["seconds"], result["test"]["top1"], images, peak)

    if name == "later run":
        run()
    return run


def fastest(given: argparse.Namespace, python: Path, peer: str) -> list[str]:
    """The peer's best settings: those of the fastest loop of one epoch, each tried once."""
    workers = ("0",) if given.quick else ("0", "2")
    ways = [
        ["--workers", number, "--precision", precision, "--channels-last"]
        for number, precision in itertools.product(workers, ("fp32", "bf16"))
    ]
    tried = [by_peer(given, python, peer, way, epochs=1) for way in ways]
    for way, run in zip(ways, tried, strict=True):
        print(f"{peer} {' '.join(way)}: {run.images / run.loop_seconds:,.0f} images/s", file=sys.stderr)
    return min(zip(ways, tried, strict=True), key=lambda one: one[1].loop_seconds)[0]


def by_peer(given: argparse.Namespace, python: Path, peer: str, way: list[str], *, epochs: int | None = None) -> Whole:
    """A run of the peer with the settings in `way`."""
    epochs = epochs or given.epochs
    command = [str(python), str(HERE / "peers.py"), peer, "--data", str(given.data.resolve()), "--model", given.model]
    command += ["--size", str(given.size), "--batch-size", str(given.batch_size), "--epochs", str(epochs), *way]
    seconds, peak, result = timed_json(command, HERE)
    return Whole(seconds, result["loop_seconds"], result["top1"], result["images"] * epochs, peak)


def timed_json(command: list[str], folder: Path) -> tuple[float, int, dict[str, Any]]:
    """Seconds of a process, bytes of its largest memory, and the object it printed last."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}\n{err.read().decode()}")
        return seconds, 1024 * usage.ru_maxrss, json.loads(out.read().splitlines()[-1])


def tell(timed: dict[str, Timed]) -> None:
    print("| tool | settings | whole process | times | loop, images/s | times | accuracy | peak memory |")
    print("|---|---|---|---|---|---|---|---|")
    ours = next(iter(timed.values())).runs
    for name, one in timed.items():
        loop = one.runs[0].images / one.median("loop_seconds")
        wholes, loops = (
            statistics.median(getattr(run, key) / getattr(own, key) for run, own in zip(one.runs, ours, strict=True))
            for key in ("seconds", "loop_seconds")
        )
        speeds = f"{one.median('seconds'):.1f} s | {wholes:.2f} | {loop:,.0f} | {loops:.2f}"
        memory = one.median("peak_bytes") / 1e6
        print(f"| {name} | {one.how} | {speeds} | {100 * one.median('top1'):.1f} % | {memory:,.0f} MB |")


if __name__ == "__main__":
    main()
