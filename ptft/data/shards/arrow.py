"""Memory-mapped Arrow tables, as Hugging Face `datasets` keeps them: any image is read without the others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptft.data.shards.columns import Columns, find_columns
from ptft.data.shards.parquet import found
from ptft.data.shards.store import Found, ShardFile, Stamp
from ptft.data.sources.listing import is_file, printable

_GROUP = 1000


@dataclass(frozen=True)
class ArrowFormat:
    """Tables of `datasets`; an image's offset is its row in the table.

    Attributes:
        columns: that are read.
        tables: the datasets.Dataset behind each file, by the path of the file.
    """

    columns: Columns
    tables: Mapping[Path, Any] = field(repr=False, compare=False)

    @classmethod
    def of(
        cls, tables: Mapping[Path, Any], where: str, image: str | None, label: str | None, names: tuple[str, ...] | None
    ) -> "ArrowFormat":
        """The format of tables of one schema.

        Raises:
            DataError: no columns of images and classes.
        """
        first = next(iter(tables.values()))
        columns = find_columns(first.features.arrow_schema, where, image, label, names)
        # Not Image: it would decode with Pillow as it likes, ahead of our limits.
        return cls(columns, {path: _raw(table, columns) for path, table in tables.items()})

    def scan(self, file: ShardFile) -> Iterator[list[Found]]:
        """The images of a table, in groups of 1,000 rows.

        Raises:
            DataError: an empty cell.
        """
        table = self.tables[file.path]
        for start in range(0, len(table), _GROUP):
            rows = range(start, min(start + _GROUP, len(table)))
            yield [self._found(file, row, table[row]) for row in rows]

    def read(self, path: Path, stamp: Stamp, group: int, offset: int, size: int) -> bytes:
        """The bytes of one row."""
        content = _bytes_of(self.tables[path][offset][self.columns.image])
        if not isinstance(content, bytes) or len(content) != size:
            raise OSError(None, f"{path.name} holds something else there")
        return content

    def _found(self, file: ShardFile, row: int, cells: Mapping[str, Any]) -> Found:
        name = printable(f"{file.name}[{row}]")
        label = self.columns.label_of(cells[self.columns.label], name)
        return found(name, row, _bytes_of(cells[self.columns.image]), label)


def _raw(table: Any, columns: Columns) -> Any:
    """Only the two columns, images as they are stored."""
    import datasets

    table = table.select_columns([columns.image, columns.label])
    if not columns.is_struct:
        return table
    return table.cast_column(columns.image, datasets.Image(decode=False))


def _bytes_of(cell: Any) -> object:
    """Bytes in the table, or in the file that it names."""
    if not isinstance(cell, Mapping):
        return cell
    content, path = cell.get("bytes"), cell.get("path")
    if content is None and path and is_file(Path(path)):
        return Path(path).read_bytes()
    return content
