"""How the rows of a table say what their images show: a class, several classes, or numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ptft.data.records import Record
from ptft.data.sources.listing import printable, some
from ptft.errors import DataError

_SEPARATORS = ";,|"
_LARGEST = 3.4e38
"""Of the numbers that float32, which models compute in, can hold; the squares of such still fit into float64."""


@dataclass(frozen=True)
class RowLabel:
    """What a row says its image shows; the fields of `Record`."""

    label: str | None = None
    labels: tuple[str, ...] = ()
    targets: tuple[float, ...] = ()


class LabelCells(Protocol):
    """Where the label of a row stands, and how it is written."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns that hold it."""
        ...

    @property
    def key(self) -> str:
        """The key of the config that names those columns."""
        ...

    def read(self, cells: Sequence[str]) -> RowLabel:
        """The label in these cells, one of each column; raises ValueError, in words, where they hold none."""
        ...

    def classes(self, records: Sequence[Record], table: str) -> tuple[str, ...]:
        """Names of all classes (targets) of the table; raises DataError where they are too few."""
        ...


@dataclass(frozen=True)
class OneLabel:
    """A class name in a column."""

    column: str
    key: str = "data.label_column"

    @property
    def columns(self) -> Sequence[str]:
        return [self.column]

    def read(self, cells: Sequence[str]) -> RowLabel:
        if not (label := cells[0].strip()):
            raise ValueError("the label is empty")
        return RowLabel(label)

    def classes(self, records: Sequence[Record], table: str) -> tuple[str, ...]:
        training = {record.label for record in training_rows(records, table)}
        classes = tuple(sorted(label for label in training if label is not None))
        if len(classes) < 2:
            raise DataError(f"{table}: only one class, {printable(classes[0])}; a classifier needs at least two.")
        return classes


def training_rows(records: Sequence[Record], table: str) -> list[Record]:
    """Those that may be trained on; raises DataError when there are none."""
    training = [record for record in records if record.part in (None, "train")]
    if not training:
        raise DataError(f"{table}: no row has split train.")
    return training


@dataclass(frozen=True)
class SeparatedLabels:
    """Class names in one column, a separator between them; an empty cell has none of the classes."""

    column: str
    separator: str
    key: str = "data.label_column"

    @property
    def columns(self) -> Sequence[str]:
        return [self.column]

    def read(self, cells: Sequence[str]) -> RowLabel:
        names = [name.strip() for name in cells[0].split(self.separator)] if cells[0].strip() else []
        if "" in names:
            raise ValueError(f"a class name is missing in {printable(cells[0])!r}")
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"class {printable(repeated)} is named twice")
        return RowLabel(labels=tuple(names))

    def classes(self, records: Sequence[Record], table: str) -> tuple[str, ...]:
        classes = tuple(sorted({name for record in training_rows(records, table) for name in record.labels}))
        if not classes:
            raise DataError(f"{table}: no row has a class; column {printable(self.column)} is empty throughout.")
        if all(len(record.labels) < 2 for record in records):
            self._check_separator(classes, table)
        return classes

    def _check_separator(self, classes: Sequence[str], table: str) -> None:
        """Of a table where no image has several classes: perhaps they are separated by something else."""
        for other in _SEPARATORS:
            if several := [name for name in classes if other in name]:
                raise DataError(
                    f"{table}: no row has several classes with {self.separator!r} between them, but {some(several)} "
                    f"{'has' if len(several) == 1 else 'have'} {other!r}. Set task.separator: {other!r}, or task.name: "
                    "single-label where these are classes."
                )


@dataclass(frozen=True)
class ZeroOneColumns:
    """A column of 0 and 1 for each class."""

    columns: tuple[str, ...]
    key: str = "task.columns"

    def read(self, cells: Sequence[str]) -> RowLabel:
        named = zip(self.columns, (cell.strip() for cell in cells), strict=True)
        return RowLabel(labels=tuple(name for name, cell in named if self._holds(name, cell)))

    def _holds(self, name: str, cell: str) -> bool:
        if cell not in ("0", "1"):
            found = repr(printable(cell)) if cell else "nothing"
            raise ValueError(f"column {printable(name)} has {found}; write 0 or 1")
        return cell == "1"

    def classes(self, records: Sequence[Record], table: str) -> tuple[str, ...]:
        training_rows(records, table)
        return self.columns


@dataclass(frozen=True)
class NumberColumns:
    """A column of numbers for each target."""

    columns: tuple[str, ...]
    key: str = "task.targets"

    def read(self, cells: Sequence[str]) -> RowLabel:
        named = zip(self.columns, (cell.strip() for cell in cells), strict=True)
        return RowLabel(targets=tuple(self._number(name, cell) for name, cell in named))

    def _number(self, name: str, cell: str) -> float:
        try:
            # As in configs, `1_000` is text, and so are the digits of other scripts; float() takes both.
            number = float(cell) if cell.isascii() and "_" not in cell else math.nan
        except ValueError:
            number = math.nan
        found = repr(printable(cell)) if cell else "nothing"
        if not math.isfinite(number):
            raise ValueError(f"column {printable(name)} has {found}; write a number, for example 3.5")
        if abs(number) > _LARGEST:
            raise ValueError(f"column {printable(name)} has {found}, beyond {_LARGEST:g}; count in a larger unit")
        return number

    def classes(self, records: Sequence[Record], table: str) -> tuple[str, ...]:
        training_rows(records, table)
        return self.columns
