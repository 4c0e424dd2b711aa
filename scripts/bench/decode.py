"""How fast images are decoded, by numbers of threads: images a second through `ptft.data.decode`.

    python scripts/bench/decode.py DIR [--image-size N] [--count N] [--threads N…]

DIR is searched for images. The files should be in the page cache, which the first pass, that is not counted, sees to.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from ptft.data.decode import decode, decoder
from ptft.data.sources.listing import image_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--image-size", type=int, help="default: the images' own")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8])
    arguments = parser.parse_args()
    files = [arguments.data / name for name in image_files(arguments.data)]
    files = files[:: max(1, len(files) // arguments.count)]
    work = partial(decode, size=arguments.image_size, channels=None, max_pixels=100_000_000)
    print(f"{len(files):,} files; decoder {decoder()}")
    seconds_of(files, work, 2)
    for number in arguments.threads:
        seconds = min(seconds_of(files, work, number) for _ in range(3))
        print(f"{number} threads: {len(files) / seconds:8,.0f} images/s")


def seconds_of(files: list[Path], work: "partial[object]", num_threads: int) -> float:
    start = time.perf_counter()
    with ThreadPoolExecutor(num_threads) as threads:
        for _ in threads.map(work, files, chunksize=1):
            pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
