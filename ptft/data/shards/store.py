"""Shard files and the rows in them: how an image is found, and read without reading its neighbours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, overload

import numpy as np

from ptft.data.records import Encoded, Part, Record
from ptft.data.shards.index import Index


class Found(NamedTuple):
    """One labelled image inside a shard.

    Attributes:
        name: unique among all shards.
        label: the class name.
        offset, size: where its bytes are; what an offset means is the format's own. The size is in bytes.
        digest: BLAKE2b of the bytes, 16 bytes.
        position: its place among all images; None for the order of the shards.
    """

    name: str
    label: str
    offset: int
    size: int
    digest: bytes
    position: int | None = None


@dataclass(frozen=True)
class ShardFile:
    """One file with images.

    Attributes:
        path: of the file, absolute.
        name: what messages and image names call it.
        part: the part all of its images belong to; None when ptft is to split.
    """

    path: Path
    name: str
    part: Part | None


Stamp = tuple[int, int]
"""Size in bytes and time of change in nanoseconds of a file: another file has another one."""


class Format(Protocol):
    """One kind of shard file. Its repr says everything that scanning depends on beside the file."""

    def scan(self, file: ShardFile) -> Iterator[list[Found]]:
        """The images of each group of a file, in order; a group is what is read in one go.

        Raises:
            DataError: the file is damaged, or an image is without a label.
        """
        ...

    def read(self, path: Path, stamp: Stamp, group: int, offset: int, size: int) -> bytes:
        """The bytes of one image in a file of this stamp.

        Raises:
            OSError: the file cannot be read.
        """
        ...


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file as it is now.

    Raises:
        OSError: it is gone.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Shards:
    """All images of some shard files.

    Attributes:
        files: in order.
        format: theirs.
        index: a row for each image.
        stamps: of the files when they were scanned.
    """

    files: Sequence[ShardFile]
    format: Format
    index: Index
    stamps: Sequence[Stamp]

    def record(self, row: int) -> Record:
        """The record of a row."""
        entry = self.index.rows[row]
        label = self.index.labels[entry["label"]]
        return Record(Encoded(self, row), label, self.files[entry["file"]].part, self.index.name(row))

    def size(self, row: int) -> int:
        """Bytes of an image."""
        return int(self.index.rows[row]["size"])

    def digest(self, row: int) -> bytes:
        """BLAKE2b of an image's bytes as they were scanned."""
        return bytes(self.index.rows[row]["digest"])

    def read(self, row: int) -> bytes:
        """An image's bytes.

        Raises:
            OSError: the file cannot be read, or is no longer what it was when it was scanned.
        """
        entry = self.index.rows[row]
        file = self.files[entry["file"]]
        stamp = self.stamps[entry["file"]]
        if stamp_of(file.path) != stamp:
            raise OSError(None, f"{file.name} changed since it was scanned")
        return self.format.read(file.path, stamp, int(entry["group"]), int(entry["offset"]), int(entry["size"]))


@dataclass(frozen=True)
class ShardRecords(Sequence[Record]):
    """The records of some rows, each made when it is asked for: eight bytes an image instead of some hundred.

    Attributes:
        shards: they lie in.
        rows: int64 (N,).
    """

    shards: Shards
    rows: np.ndarray

    @classmethod
    def of(cls, records: Sequence[Record]) -> "ShardRecords":
        """The same records, at least one, all of the same shards."""
        images = [record.image for record in records if isinstance(record.image, Encoded)]
        return cls(images[0].shards, np.array([image.row for image in images], np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "ShardRecords": ...
    def __getitem__(self, index: int | slice) -> "Record | ShardRecords":
        if isinstance(index, slice):
            return ShardRecords(self.shards, self.rows[index])
        return self.shards.record(int(self.rows[index]))

    def entries(self) -> np.ndarray:
        """Rows of the index, structured (N,)."""
        found: np.ndarray = self.shards.index.rows[self.rows]
        return found

    def by_place(self) -> "ShardRecords":
        """The same in the order they lie in the files."""
        entries = self.entries()
        return ShardRecords(self.shards, self.rows[np.lexsort((entries["offset"], entries["group"], entries["file"]))])

    def group_starts(self) -> np.ndarray:
        """Where each group begins among these, which are ordered by place; int64 (G + 1,), the last is N."""
        entries = self.entries()
        places = np.stack([entries["file"], entries["group"]], axis=1)
        begins = (places[1:] != places[:-1]).any(axis=1)
        return np.concatenate([[0], np.flatnonzero(begins) + 1, [len(self)]]).astype(np.int64)

    def digests(self) -> list[bytes]:
        """BLAKE2b of each one's bytes, 16 bytes."""
        return [digest.tobytes() for digest in self.entries()["digest"]]


@dataclass(frozen=True)
class RecordNames(Sequence[str]):
    """The names of records, each made when it is asked for."""

    records: ShardRecords

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "RecordNames": ...
    def __getitem__(self, index: int | slice) -> "str | RecordNames":
        if isinstance(index, slice):
            return RecordNames(self.records[index])
        return self.records.shards.index.name(int(self.records.rows[index]))
