"""What the cache of decoded images costs and saves: seconds to have a folder of images ready, and bytes on disk.

    python scripts/bench/cache.py DIR [--image-size N] [--times N]

DIR holds one folder for each class, or train and test folders of such. Nothing is trained. The files should be in the
page cache, which the first pass, that is not counted, sees to.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ptft.data.cache import Cache
from ptft.data.sources import Folder
from ptft.data.task import Task, prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--image-size", type=int, help="default: the images' own")
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    config = Folder(name="folder", root=str(arguments.data), image_size=arguments.image_size)

    def read(cache: Cache | None) -> Task:
        return prepare(config.open(), config, seed=0, cache=cache)

    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        task = read(None)
        for turn in range(arguments.times):
            folder = Path(place, str(turn))
            for name, work in {
                "listing alone": lambda: config.open(),
                "without a cache": lambda: read(None),
                "first run": lambda folder=folder: read(Cache(folder)),
                "second run": lambda folder=folder: read(Cache(folder)),
                "second run, --verify-cache": lambda folder=folder: read(Cache(folder, verify=True)),
            }.items():
                rows.setdefault(name, []).append(seconds_of(work))
        num_bytes = sum(file.num_bytes for file in Cache(folder).files())
        taking = {name: seconds_of(lambda one=one: epoch(one)) for name, one in taken(task, read, folder).items()}
    count = sum(map(len, task.parts.values()))
    pixels = count * task.format.in_channels * task.format.image_size**2
    print(f"{count:,} images of {task.format.image_size} pixels, {task.format.in_channels} channels")
    for name, all_seconds in rows.items():
        print(f"{name:<28} {statistics.median(all_seconds):7.2f} s")
    for name, seconds in taking.items():
        print(f"{name:<28} {seconds:7.2f} s")
    print(f"on disk: {num_bytes / 1e6:,.1f} MB, {num_bytes / pixels:.3f} bytes a pixel and channel")


def taken(task: Task, read: Callable[[Cache | None], Task], folder: Path) -> dict[str, Task]:
    return {"an epoch of batches, memory": task, "an epoch of batches, mapped": read(Cache(folder))}


def epoch(task: Task) -> None:
    """Every training image once, in batches of 128 at random."""
    for rows in torch.randperm(len(task.train)).split(128):
        task.train.images.take(rows)


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
