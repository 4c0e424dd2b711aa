"""Parquet files with a column of encoded images, read a row group at a time."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from ptft.data.shards.columns import Columns, find_columns
from ptft.data.shards.store import Found, ShardFile, Stamp
from ptft.data.sources.listing import printable
from ptft.errors import DataError

_MOST_BYTES = 1 << 29
"""Row groups kept in memory: those that a shuffle buffer draws from."""


class _Groups:
    """The row groups used last, up to a number of bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, int], Any] = OrderedDict()
        self._num_bytes = 0
        self._lock = Lock()

    def images(self, path: Path, group: int, columns: Columns) -> Any:
        """The bytes of a group's images, a ChunkedArray."""
        with self._lock:
            if (path, group) not in self._kept:
                images = _read_group(path, group, columns, [columns.leaf])[0]
                self._kept[path, group] = images
                self._num_bytes += images.nbytes
                while self._num_bytes > _MOST_BYTES and len(self._kept) > 1:
                    self._num_bytes -= self._kept.popitem(last=False)[1].nbytes
            self._kept.move_to_end((path, group))
            return self._kept[path, group]


@dataclass(frozen=True)
class ParquetFormat:
    """Parquet files; an image's offset is its row in the row group.

    Attributes:
        columns: that are read.
    """

    columns: Columns
    _groups: _Groups = field(default_factory=_Groups, repr=False, compare=False)

    @classmethod
    def of(
        cls, file: ShardFile, image: str | None, label: str | None, names: tuple[str, ...] | None
    ) -> "ParquetFormat":
        """The format of a file, by its schema.

        Raises:
            DataError: not a Parquet file, or no columns of images and classes.
        """
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(file.path) as opened:
                return cls(find_columns(opened.schema_arrow, file.name, image, label, names))
        except (pyarrow.ArrowException, OSError) as error:
            raise _damaged(file, error) from error

    def scan(self, file: ShardFile) -> Iterator[list[Found]]:
        """The images of each row group.

        Raises:
            DataError: damaged, other columns than the first file, an empty cell.
        """
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(file.path) as opened:
                count, start = opened.num_row_groups, 0
            for group in range(count):
                images, labels = _read_group(file.path, group, self.columns, [self.columns.leaf, self.columns.label])
                yield [
                    self._found(file, start + row, row, image.as_py(), label.as_py())
                    for row, (image, label) in enumerate(zip(images, labels, strict=True))
                ]
                start += len(images)
        except (pyarrow.ArrowException, KeyError, OSError) as error:
            raise _damaged(file, error) from error

    def read(self, path: Path, stamp: Stamp, group: int, offset: int, size: int) -> bytes:
        """The bytes in one cell."""
        content = self._groups.images(path, group, self.columns)[offset].as_py()
        if not isinstance(content, bytes) or len(content) != size:
            raise OSError(None, f"{path.name} holds something else there")
        return content

    def _found(self, file: ShardFile, number: int, row: int, image: object, label: object) -> Found:
        name = printable(f"{file.name}[{number}]")
        return found(name, row, image, self.columns.label_of(label, name))


def found(name: str, offset: int, image: object, label: str) -> Found:
    """A cell as a found image.

    Raises:
        DataError: it holds no bytes.
    """
    if not isinstance(image, bytes) or not image:
        raise DataError(f"{name}: the image's bytes are not in the file, only a path to them. Write them into it.")
    return Found(name, label, offset, len(image), hashlib.blake2b(image, digest_size=16).digest())


def _read_group(path: Path, group: int, columns: Columns, wanted: list[str]) -> list[Any]:
    """Columns of a row group; the first is that of images, as bytes."""
    import pyarrow.compute
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as opened:
        table = opened.read_row_group(group, columns=wanted)
    images = table.column(columns.image)
    first = pyarrow.compute.struct_field(images, "bytes") if columns.is_struct else images
    return [first, *(table.column(columns.label) for _ in wanted[1:])]


def _damaged(file: ShardFile, error: Exception) -> Exception:
    """The error to raise for one of pyarrow's, which raises OSError without a number for damaged pages too."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return DataError(f"{file.name}: not a Parquet file, damaged, or with other columns than the first ({error}).")
