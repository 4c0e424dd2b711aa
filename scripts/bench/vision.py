"""What it costs to import torchvision: as it is, and as ptft does, without torch's compiler.

    python scripts/bench/vision.py [--rounds N]

Each import is in a process of its own that has torch already, by turns: medians of wall and processor time, and of the
resident memory that it adds.
"""

import argparse
import statistics
import subprocess
import sys

WAYS = {"torchvision": "import torchvision", "ptft.vision": "from ptft.vision import torchvision"}
MEASURE = """
import resource, time
import torch
def now():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime, usage.ru_maxrss
before = now()
{way}
print(*(after - start for after, start in zip(now(), before)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    found: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for _ in range(given.rounds):
        for name, way in WAYS.items():
            command = [sys.executable, "-W", "ignore", "-c", MEASURE.format(way=way)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[name].append([float(number) for number in told.split()])
    print("| import | seconds | of processor | MB |\n|---|---|---|---|")
    for name, rounds in found.items():
        wall, processor, kilobytes = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {wall:.2f} | {processor:.2f} | {kilobytes / 1024:.0f} |")


if __name__ == "__main__":
    main()
