"""How long `ptft pretrain` takes to its first finished step, beside `import torch` alone.

    python scripts/bench/start.py [DIR] [--set KEY=VALUE…] [--times N]

DIR is a folder of images, one folder for each class; without one the embedded images are used. The first run decodes
and measures; the later ones find that in the cache, which is a folder of this script's own. A run is ended, with a
signal that nothing survives, when metrics.jsonl has its first line. Medians; the machine should do nothing else.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder of images")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), arguments.data, arguments.sets, arguments.times)
    for name, seconds in measured.items():
        print(f"{name:<42} {seconds:6.2f} s")


def measure(folder: Path, data: Path | None, sets: list[str], times: int) -> dict[str, float]:
    """Seconds of each thing, the median where it was done more than once."""
    source = {"name": "folder", "root": str(data.resolve())} if data else {"name": "fashion-mnist-10k"}
    config = folder / "run.yaml"
    # Few steps, so that there is a line for each.
    config.write_text(json.dumps({"data": source, "train": {"steps": 100}}))
    seconds_to_step(folder, "imports", sets)  # Python's own files come into memory, and the cache is filled
    first = seconds_to_step(folder, "first", sets, cache="first-cache")
    torch, later = [], []
    for turn in range(times):
        torch.append(seconds_of([sys.executable, "-c", "import torch"]))
        later.append(seconds_to_step(folder, f"later-{turn}", sets))
    return {
        "import torch": statistics.median(torch),
        "ptft to its first step, cache empty": first,
        "ptft to its first step, second run": statistics.median(later),
        "that minus import torch": statistics.median(later) - statistics.median(torch),
    }


def seconds_of(command: list[str]) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - start


def seconds_to_step(folder: Path, out: str, sets: list[str], cache: str = "cache") -> float:
    """Seconds until the first line of metrics."""
    command = [sys.executable, "-m", "ptft", "pretrain", "run.yaml", "--out", out, "--cache-dir", cache]
    for text in sets:
        command += ["--set", text]
    metrics = folder / out / "metrics.jsonl"
    start = time.monotonic()
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as running:
        while running.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.005)
        seconds = time.monotonic() - start
        running.kill()
        if not metrics.exists():
            assert running.stderr is not None
            sys.exit(running.stderr.read())
    return seconds


if __name__ == "__main__":
    main()
