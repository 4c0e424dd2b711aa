"""Where every image of some shards lies, its class and its digest: made by one pass over the files, then kept.

The index is a table of numbers with 56 bytes an image and their names, memory-mapped from ptft's cache folder: a second
run reads no shard to start. It is kept under the paths, sizes and times of the files, so that a changed file is
scanned again.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptft.errors import DataError, StorageError
from ptft.storage import storage_errors, write_durably, write_text_durably

if TYPE_CHECKING:
    from ptft.data.shards.store import Format, ShardFile, Stamp

_VERSION = 2
_NUM_THREADS = 4
_ROWS, _NAMES, _ABOUT = "rows.npy", "names.npy", "index.json"
FILES = (_ROWS, _NAMES, _ABOUT)
"""Names of the files of a kept index."""

ROW = np.dtype(
    [
        ("file", "<i4"),
        ("group", "<i4"),
        ("label", "<i4"),
        ("name_size", "<i4"),
        ("offset", "<i8"),
        ("size", "<i8"),
        ("name_start", "<i8"),
        ("digest", "V16"),
    ]
)


@dataclass(frozen=True)
class Index:
    """A row for each image of some shards.

    Attributes:
        rows: structured ROW (N,).
        names: uint8, all names one after the other, UTF-8.
        labels: class names that `rows["label"]` counts.
    """

    rows: np.ndarray
    names: np.ndarray
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """What an image is called."""
        start, size = int(self.rows[row]["name_start"]), int(self.rows[row]["name_size"])
        return self.names[start : start + size].tobytes().decode("utf-8", "surrogateescape")


def index_of(files: Sequence["ShardFile"], format_: "Format", stamps: Sequence["Stamp"]) -> Index:
    """The index of some shards, from the cache where they are unchanged since it was made.

    A cache that cannot be written to is done without.

    Args:
        files: in order.
        format_: theirs.
        stamps: theirs.

    Raises:
        DataError: as `Format.scan`, or two images have one name.
        StorageError: a file cannot be read.
    """
    from ptft.runtime import cache_folder  # configs are read without torch

    place = cache_folder(None)
    if place is None:
        return _build(files, format_)
    folder = place / "shards" / _key(files, format_, stamps)
    kept = _load(folder)
    if kept is not None:
        return kept
    built = _build(files, format_)
    with suppress(StorageError, OSError):
        _keep(built, folder)
        return _load(folder) or built  # mapped from the file, the rows need no memory of ours
    return built


def _key(files: Sequence["ShardFile"], format_: "Format", stamps: Sequence["Stamp"]) -> str:
    facts: list[object] = [_VERSION, repr(format_)]
    facts += [[os.fspath(file.path), file.name, *stamp] for file, stamp in zip(files, stamps, strict=True)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _load(folder: Path) -> Index | None:
    """What was kept; None where there is nothing, or not all of it."""
    try:
        about = json.loads((folder / _ABOUT).read_text())
        rows = np.load(folder / _ROWS, mmap_mode="r", allow_pickle=False)
        names = np.load(folder / _NAMES, mmap_mode="r", allow_pickle=False)
        labels = tuple(map(str, about["labels"]))
        if rows.dtype != ROW or [len(rows), len(names)] != about["sizes"] or _sum_of(rows, names) != about["sum"]:
            return None
        return Index(rows, names, labels)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sum_of(rows: np.ndarray, names: np.ndarray) -> str:
    """BLAKE2b over a table: a label or a place that was damaged would go unnoticed."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (rows, names):
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _keep(index: Index, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / _ROWS, lambda file: np.save(file, index.rows, allow_pickle=False))
    write_durably(folder / _NAMES, lambda file: np.save(file, index.names, allow_pickle=False))
    sizes = [len(index.rows), len(index.names)]
    about = {"labels": index.labels, "sizes": sizes, "sum": _sum_of(index.rows, index.names)}
    # Last: without it nothing counts as kept.
    write_text_durably(folder / _ABOUT, json.dumps(about))


def _build(files: Sequence["ShardFile"], format_: "Format") -> Index:
    """Scans the files in threads; the results are compact, so that what waits is small."""
    all_rows, all_positions, names = [], [], bytearray()
    vocabulary: dict[str, int] = {}
    known: set[bytes] = set()
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        for number, (rows, positions, own_names, labels) in enumerate(
            threads.map(lambda file: _scan(file, format_), files)
        ):
            _check_new(rows, own_names, known, files[number])
            numbers = [vocabulary.setdefault(label, len(vocabulary)) for label in labels]
            rows["file"] = number
            rows["name_start"] += len(names)
            rows["label"] = np.array(numbers, np.int32)[rows["label"]] if numbers else 0
            names += own_names
            all_rows.append(rows)
            all_positions.append(positions)
    rows = np.concatenate([np.empty(0, ROW), *all_rows])
    positions = np.concatenate([np.empty(0, np.int64), *all_positions])
    if len(rows) and positions.min() >= 0:
        rows = rows[np.argsort(positions, kind="stable")]
    return Index(rows, np.frombuffer(bytes(names), np.uint8), tuple(vocabulary))


def _check_new(rows: np.ndarray, names: bytes, known: set[bytes], file: "ShardFile") -> None:
    """Notes the names of a file's images by their digests; a split goes by name, so two of one name would go together.

    Raises:
        DataError: a file before has one of them.
    """
    for start, size in zip(rows["name_start"].tolist(), rows["name_size"].tolist(), strict=True):
        name = names[start : start + size]
        digest = hashlib.blake2b(name, digest_size=12).digest()
        if digest in known:
            told = name.decode("utf-8", "surrogateescape")
            raise DataError(f"{file.name}: an image is called {told}, as one in a file before it. Pack them again.")
        known.add(digest)


def _scan(file: "ShardFile", format_: "Format") -> tuple[np.ndarray, np.ndarray, bytes, list[str]]:
    """Rows, positions (-1 for none), names and labels of one file."""
    rows, positions, names = [], [], bytearray()
    labels: dict[str, int] = {}
    seen: set[str] = set()
    with storage_errors(file.path, "read"):
        for group, found in enumerate(format_.scan(file)):
            for image in found:
                if image.name in seen:
                    raise DataError(f"{file.name}: two images are called {image.name}.")
                seen.add(image.name)
                name = image.name.encode("utf-8", "surrogateescape")
                label = labels.setdefault(image.label, len(labels))
                rows.append((0, group, label, len(name), image.offset, image.size, len(names), image.digest))
                positions.append(-1 if image.position is None else image.position)
                names += name
    return np.array(rows, ROW), np.array(positions, np.int64), bytes(names), list(labels)
