"""Images listed in a csv file with their labels."""

import csv
import difflib
import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Literal

from pydantic import Field

from ptft.data.records import Part, Record, Source
from ptft.data.sources.base import PART_NAMES, DataConfig, PathText
from ptft.data.sources.listing import IMAGE_SUFFIXES, existing_folder, file_mode, is_file, printable, some
from ptft.data.sources.row_labels import LabelCells, OneLabel
from ptft.errors import DataError
from ptft.paths import user_path

TABLE_SUFFIXES = (".csv", ".tsv")
"""Endings of the files that `--data` takes for tables."""

_DELIMITERS = ",;\t"
_EXCEL = re.compile(r"sep=(.)\r?\n")
_NUM_SHOWN = 5
_MAX_BYTES = 1 << 28
_MAX_COLUMNS = 1000


class Csv(DataConfig):
    """a csv file with the columns path, label (or what the task asks for) and optionally split"""

    name: Literal["csv"] = "csv"
    """A table of images: UTF-8, a header line, fields separated by comma, semicolon or tab."""

    path: PathText = Field(examples=["images.csv"])
    """The csv file."""

    root: PathText | None = None
    """The folder that the paths in the table start from; default: the folder of the csv file."""

    path_column: str = Field(default="path", min_length=1)
    """Name of the column with the path of each image."""

    label_column: str = Field(default="label", min_length=1)
    """Name of the column with the class name of each image (all its class names, with task.name: multi-label). Labels
    are text: `012` stays `012`."""

    split_column: str = Field(default="split", min_length=1)
    """Name of the column that says train, val or test; without such a column ptft splits."""

    outside_root: bool = False
    """Whether the table may list absolute paths, paths with `..`, and links that lead out of `root`."""

    def home(self) -> Path:
        """`root`, or the folder of the table."""
        return user_path(self.path).parent if self.root is None else user_path(self.root)

    def open(self) -> Source:
        """Reads the table, one class a row, and checks that every file is there.

        Raises:
            DataError: the table cannot be read, lacks a column, or has rows that cannot be used; the first of
                them are named by line.
        """
        return self.open_labelled(OneLabel(self.label_column))

    def open_labelled(self, cells: LabelCells) -> Source:
        """As `open`, with other labels than one class a row."""
        records, name = self.records(cells), printable(self.path)
        return Source(records, cells.classes(records, name), f"csv {name}")

    def records(self, cells: LabelCells) -> list[Record]:
        """The rows, also where they are too few, or of too few classes, to train on.

        Raises:
            DataError: as `open`.
        """
        file = user_path(self.path)
        root = file.parent if self.root is None else existing_folder(self.root)
        table = _Table(printable(self.path), _text(file, printable(self.path)))
        table.check_header(root, [self.path_column, *cells.columns])
        path = table.column(self.path_column, "data.path_column")
        labels = [table.column(name, cells.key) for name in cells.columns]
        split = self._split(table)
        reader = _RowReader(root, self.outside_root, cells)
        for line, row in table.rows:
            reader.read(line, row[path], [row[column] for column in labels], None if split is None else row[split])
        reader.raise_faults(table.name)
        return reader.records

    def _split(self, table: "_Table") -> int | None:
        # By value, not by whether the key was set: the config.yaml of a run and a checkpoint write every default out.
        # `Split` is refused as `Path` is: passed over in silence, its test images would be trained on.
        if self.split_column != "split" or "split" in map(str.lower, table.header):
            return table.column(self.split_column, "data.split_column")
        return None


def _text(file: Path, name: str) -> str:
    mode = file_mode(file)
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{name}: not a regular file.")
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a character that no path can hold
        if not isinstance(error, OSError):
            raise DataError(f"{name}: cannot be read: no path.") from error
        raise DataError(f"{name}: cannot be read: {(error.strerror or str(error)).lower()}.") from error
    if len(content) > _MAX_BYTES:
        raise DataError(f"{name}: larger than {_MAX_BYTES >> 20} MiB. A table lists images, it does not hold them.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{name}:{line}: not UTF-8 text. Save the table as UTF-8.") from error


class _Table:
    """The header and the rows of a csv text, each row with the line it starts on.

    Raises:
        DataError: no header, no rows, or text that is not csv.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.delimiter = _delimiter(text)
        lines = self._read(text)
        if re.match(_EXCEL, text):
            next(lines)
        self.header = [name.strip() for name in next(lines, (0, []))[1]]
        if not self.header:
            raise DataError(f"{name}: the file is empty. Its first line must name the columns, for example path,label.")
        if len(self.header) > _MAX_COLUMNS:
            raise DataError(f"{name}:1: {len(self.header):,} columns; at most {_MAX_COLUMNS:,} can be read.")
        self.rows = [(line, self._complete(line, row)) for line, row in lines]
        if not self.rows:
            raise DataError(f"{name}: a header but no rows; list one image per line.")

    def _read(self, text: str) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(StringIO(text, newline=""), delimiter=self.delimiter, skipinitialspace=True, strict=True)
        line = 1
        try:
            for row in reader:
                if any(row):
                    yield line, row
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{self.name}:{line}: not a csv row: {error}.") from error

    def _complete(self, line: int, row: list[str]) -> list[str]:
        if len(row) == len(self.header):
            return row
        shown = "tab" if self.delimiter == "\t" else self.delimiter
        raise DataError(
            f"{self.name}:{line}: {len(row)} {'field' if len(row) == 1 else 'fields'} where the header has "
            f'{len(self.header)}. Put fields that contain "{shown}" in double quotes.'
        )

    def check_header(self, root: Path, wanted: Sequence[str]) -> None:
        """Raises DataError where the first line names none of the wanted columns, and an image below `root` instead."""
        if set(wanted) & set(self.header):
            return
        images = [name for name in self.header if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        if is_file(root / self.header[0]):
            images.insert(0, self.header[0])
        if images:
            example = printable(self.delimiter.join(wanted))
            raise DataError(
                f"{self.name}:1: no header line: the first line is of the image {printable(images[0])} already. Write "
                f"a line above it that names the columns, for example {example}."
            )

    def column(self, wanted: str, key: str) -> int:
        """Index of the column that `key` of the config names."""
        count = self.header.count(wanted)
        if count == 1:
            return self.header.index(wanted)
        if count:
            raise DataError(f"{self.name}:1: {count} columns are named {wanted}. Rename all but one.")
        close = difflib.get_close_matches(wanted.lower(), [name.lower() for name in self.header], n=1)
        guess = next((name for name in self.header if name.lower() in close), "NAME")
        raise DataError(
            f"{self.name}:1: no column {wanted}; the columns are {some(self.header)}. "
            f"Rename yours, or tell a run its name: --set {shlex.quote(f'{key}={printable(guess)}')}, or the same in "
            "the config."
        )


def _delimiter(text: str) -> str:
    """What Excel's line `sep=` says, else what splits the header most; csv.Sniffer fails on tables of one column."""
    if said := re.match(_EXCEL, text):
        return said[1]
    header = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
    return max(_DELIMITERS, key=header.count)


@dataclass
class _RowReader:
    """Turns rows into records and collects what is wrong with them."""

    root: Path
    outside_root: bool
    cells: LabelCells
    records: list[Record] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    _seen: dict[str, tuple[int, str]] = field(default_factory=dict)
    _real_folders: dict[Path, Path] = field(default_factory=dict)

    def read(self, line: int, path: str, label: Sequence[str], split: str | None) -> None:
        """Adds one row: path, cells of the label, and split (None without such a column)."""
        try:
            self.records.append(self._record(line, path, label, split))
        except ValueError as error:
            self.faults.append((line, str(error)))

    def raise_faults(self, table: str) -> None:
        """Raises one DataError with the first faults, if there are any."""
        if not self.faults:
            return
        shown = [f"{table}:{line}: {fault}" for line, fault in self.faults[:_NUM_SHOWN]]
        if len(self.faults) > _NUM_SHOWN:
            shown.append(f"... and {len(self.faults) - _NUM_SHOWN} more")
        count = len(self.faults)
        shown.append(f"{count} {'row' if count == 1 else 'rows'} of {table} cannot be used. Correct or remove them.")
        raise DataError("\n".join(shown))

    def _record(self, line: int, path: str, cells: Sequence[str], split: str | None) -> Record:
        if not (path := path.strip()):
            raise ValueError("the path is empty")
        try:
            label = self.cells.read(cells)
        except ValueError as error:
            raise ValueError(f"{printable(path)}: {error}") from error
        name = os.path.normpath(path)
        self._check_unique(line, name, ", ".join(cell.strip() for cell in cells))
        self._check_file(name)
        return Record(self.root / name, label.label, _part(split), printable(name), label.labels, label.targets)

    def _check_unique(self, line: int, name: str, label: str) -> None:
        first, known = self._seen.setdefault(name, (line, label))
        if first == line:
            return
        labels = "" if known == label else f", with label {printable(known)} there and {printable(label)} here"
        raise ValueError(f"{printable(name)} is already on line {first}{labels}")

    def _check_file(self, name: str) -> None:
        hint = "write it relative to root, or set data.outside_root: true"
        if not self.outside_root:
            if Path(name).is_absolute():
                raise ValueError(f"{printable(name)}: an absolute path; {hint}")
            if name.split("/")[0] == "..":
                raise ValueError(f"{printable(name)}: leads out of {printable(self.root)}; {hint}")
        file = self.root / name
        mode = file_mode(file)
        if mode is None:
            raise ValueError(f"{printable(name)}: no such file in {printable(self.root)}")
        if not stat.S_ISREG(mode):
            raise ValueError(f"{printable(name)}: not a regular file")
        if not self.outside_root and not self._is_inside(file):
            raise ValueError(f"{printable(name)}: a link out of {printable(self.root)}; set data.outside_root: true")

    def _is_inside(self, file: Path) -> bool:
        # Resolving costs a system call per path component: done once per folder, and per file for links only.
        real = file.resolve() if file.is_symlink() else self._real(file.parent) / file.name
        return real.is_relative_to(self._real(self.root))

    def _real(self, folder: Path) -> Path:
        if folder not in self._real_folders:
            self._real_folders[folder] = folder.resolve()
        return self._real_folders[folder]


def _part(split: str | None) -> Part | None:
    if split is None:
        return None
    part = PART_NAMES.get(split.strip().lower())
    if part is None:
        found = f"'{printable(split)}' is not a split" if split.strip() else "the split is empty"
        raise ValueError(f"{found}; write train, val or test")
    return part
