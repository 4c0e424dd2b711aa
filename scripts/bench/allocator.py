"""What it brings that a process keeps the memory it has freed (`ptft.allocator`), in speed and in peak memory.

    python scripts/bench/allocator.py CONFIG [--set KEY=VALUE…] [--steps 60] [--pairs 5]

Pretrains by turns as ever, and with an environment that leaves the C library's allocator as it is. Images a second are
those of training, without starting Python and reading images.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

OUT = Path("runs/bench-allocator")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "ptft", "pretrain", str(arguments.config), "--out", str(OUT)]
    for text in (*arguments.sets, "train.epochs=null", f"train.steps={arguments.steps}"):
        command += ["--set", text]
    ratios, peaks = [], []
    for pair in range(arguments.pairs):
        found = {kept: train(command, kept) for kept in (True, False)[:: 1 if pair % 2 else -1]}
        ratios.append(found[False][0] / found[True][0])
        peaks.append(found[True][1] / found[False][1])
        print(f"pair {pair}: {ratios[-1]:.3f} times as fast, {peaks[-1]:.3f} times the peak memory", flush=True)
    print(f"median: {statistics.median(ratios):.3f} times as fast, {statistics.median(peaks):.3f} times the memory")


def train(command: list[str], kept: bool) -> tuple[float, int]:
    """Seconds of training, and peak memory in bytes."""
    shutil.rmtree(OUT, ignore_errors=True)
    environment = os.environ | ({} if kept else {"GLIBC_TUNABLES": ""})
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed; see {OUT / 'log.txt'}")
    return json.loads((OUT / "summary.json").read_text())["seconds"], used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
