"""`ptft cache`: what is kept between runs, told and cleared."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptft.data.cache import Cache, CacheOptions
from ptft.data.segments import SUFFIX, DamagedSegmentError, Segment
from ptft.data.sources.listing import printable
from ptft.errors import UsageError
from ptft.report.console import Console
from ptft.storage import storage_errors, told_size


@dataclass
class _Kept:
    """The images of one source at one size."""

    home: str
    image_size: int
    num_images: int = 0
    num_bytes: int = 0
    used: float = 0.0


def describe_cache(folder: Path | None, console: Console) -> tuple[dict[str, Any], str]:
    """Which images are kept, those used last first.

    Args:
        folder: the cache; None for the usual one.
        console: hears of files that cannot be read.

    Returns:
        The same as plain Python, and as lines of text.

    Raises:
        UsageError: there is no place for a cache.
        StorageError: the folder cannot be read.
    """
    cache = _open(folder, console)
    with storage_errors(cache.folder, "read"):
        files = cache.files()
    kept = _kept(cache, console)
    total = sum(file.num_bytes for file in files)
    num_measured = sum(file.path.parent.name == "measured" for file in files)
    described = {
        "folder": str(cache.folder),
        "bytes": total,
        "limit_bytes": cache.limit_bytes,
        "sources": [
            {
                "home": printable(one.home),
                "image_size": one.image_size,
                "num_images": one.num_images,
                "bytes": one.num_bytes,
                "used": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(one.used)),
            }
            for one in kept
        ],
        "num_measured": num_measured,
    }
    rows = [
        (
            f"{one.num_images:,}",
            f"{one.image_size}x{one.image_size}",
            told_size(one.num_bytes),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used)),
            printable(one.home),
        )
        for one in kept
    ]
    may_grow = "half of what is free" if cache.limit_bytes is None else told_size(cache.limit_bytes)
    last = f"{cache.folder}: {told_size(total)}, {num_measured:,} measurements among it; may grow to {may_grow}."
    return described, "\n".join([*_aligned(("images", "size", "bytes", "used", "source"), rows), last])


def clear_cache(folder: Path | None, keep_gb: float, console: Console) -> tuple[dict[str, Any], str]:
    """Removes what was used least recently and is not in use; arguments, result and errors as `describe_cache`.

    Args:
        folder, console: as for `describe_cache`.
        keep_gb: how much may stay.
    """
    keep_bytes = keep_gb * 1e9
    if not math.isfinite(keep_bytes):
        raise UsageError(f"--keep-gb: {keep_gb} is no number of gigabytes. Give 20, for example.")
    cache = _open(folder, console)
    with storage_errors(cache.folder, "tidy"):
        removed, stays = cache.clear(int(keep_bytes))
    left = f"; {told_size(stays)} stay" + ("" if stays <= keep_bytes else ", in use or not ours to remove")
    sentence = f"removed {told_size(removed)} from {cache.folder}{left if stays else ''}."
    return {"folder": str(cache.folder), "removed_bytes": removed, "bytes": stays}, sentence


def _open(folder: Path | None, console: Console) -> Cache:
    cache = CacheOptions(folder).open(console.say)
    if cache is None:
        raise UsageError("there is no home folder to keep a cache in. Give --cache-dir, or set PTFT_CACHE_DIR.")
    return cache


def _kept(cache: Cache, console: Console) -> list[_Kept]:
    found: dict[tuple[Path, int], _Kept] = {}
    for file in cache.files():
        if file.path.suffix != SUFFIX:
            continue
        try:
            segment = Segment.open(file.path)
        except (DamagedSegmentError, OSError) as error:
            console.say(f"{file.path}: cannot be read ({error}); the next run that needs it decodes anew.")
            continue
        size = segment.pixels.shape[-1]
        one = found.setdefault((file.path.parent, size), _Kept(segment.notes["home"], size))
        one.num_images += len(segment.keys)
        one.num_bytes += file.num_bytes
        one.used = max(one.used, file.used)
    return sorted(found.values(), key=lambda one: one.used, reverse=True)


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose last column is as long as it is; none without rows."""
    if not rows:
        return []
    *widths, _ = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    return [
        "  ".join([*(cell.rjust(width) for cell, width in zip(cells[:-1], widths, strict=True)), cells[-1]])
        for cells in (columns, *rows)
    ]
