"""From `data.path` to shard files of one kind: in a folder here, or fetched by Hugging Face `datasets`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ptft.data.records import Part
from ptft.data.shards.manifest import MANIFEST, Manifest, check_files, read_manifest
from ptft.data.shards.parquet import ParquetFormat
from ptft.data.shards.store import Format, ShardFile
from ptft.data.shards.tar import TarFormat
from ptft.data.sources.base import PART_NAMES
from ptft.data.sources.listing import file_mode, is_file, is_folder, printable, some
from ptft.errors import DataError, UsageError
from ptft.paths import user_path

if TYPE_CHECKING:
    from ptft.data.sources.hub import Hub

ENDINGS = (".tar", ".parquet")
_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_WORDS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class HubFiles:
    """What `data.path` means.

    Attributes:
        files: with images, in order.
        format: theirs.
        origin: phrase for messages.
        classes: in the data set's own order; empty where it has none.
        manifest: of packed shards.
    """

    files: Sequence[ShardFile]
    format: Format
    origin: str
    classes: tuple[str, ...] = ()
    manifest: Manifest | None = None


def find_files(config: "Hub") -> HubFiles:
    """The files of a data set.

    Raises:
        DataError: there are none, or they cannot be fetched.
        UsageError: a package is missing.
    """
    path = user_path(config.path)
    if is_folder(path):
        return _in_folder(path, config)
    if path.suffix.lower() in ENDINGS or file_mode(path) is not None:
        if not is_file(path):
            raise DataError(f"{printable(path)}: no such file (looked in {printable(Path.cwd())}).")
        if path.suffix.lower() not in ENDINGS:
            raise DataError(f"{printable(path)}: neither a .tar nor a .parquet file.")
        return files_of(
            {ShardFile(path.absolute(), path.name, None): path.suffix.lower()}, f"file {printable(path)}", config
        )
    if not _HUB_NAME.fullmatch(config.path):
        raise DataError(f"{printable(config.path)}: no such folder, and no name of a data set on the hub.")
    from ptft.data.sources.hub_names import fetch

    return fetch(config)


def _in_folder(folder: Path, config: "Hub") -> HubFiles:
    origin = f"shards in {printable(folder)}"
    manifest = read_manifest(folder)
    if manifest is not None:
        return _packed(folder, manifest, origin)
    if config.subset is not None:
        from ptft.data.sources.hub_names import open_repository

        return open_repository(folder, f"data set in {printable(folder)}", config)
    if any(is_file(folder / name) for name in _SAVED):
        from ptft.data.sources.hub_names import open_saved

        return open_saved(folder, config)
    found = {path for ending in ENDINGS for path in folder.rglob(f"*{ending}") if is_file(path)}
    names = sorted((path.relative_to(folder).as_posix(), path) for path in found)
    files = {ShardFile(path.absolute(), printable(name), part_of(name)): path.suffix.lower() for name, path in names}
    if not files:
        raise DataError(
            f"{printable(folder)}: no {MANIFEST}, no .tar and no .parquet files in this folder. A folder of images is "
            "data.name: folder; `ptft pack` makes shards of one."
        )
    return files_of(files, origin, config)


def _packed(folder: Path, manifest: Manifest, origin: str) -> HubFiles:
    check_files(manifest, folder)
    files = [ShardFile((folder / shard.file).absolute(), shard.file, shard.part) for shard in manifest.shards]
    digests = {shard.file: shard.sha256 for shard in manifest.shards}
    return HubFiles(files, TarFormat(digests=digests), origin, manifest.classes, manifest)


def part_of(name: str) -> Part | None:
    """The part that a path below the folder speaks of: its first word that names one, folders before files."""
    words = [word for word in _WORDS.split(name.lower()) if word]
    return next((PART_NAMES[word] for word in words if word in PART_NAMES), None)


def files_of(endings: Mapping[ShardFile, str], origin: str, config: "Hub") -> HubFiles:
    """Files of one kind as a data set.

    Args:
        endings: `.tar` or `.parquet` of each file, in order.
        origin: phrase for messages.
        config: names of columns and classes.

    Raises:
        DataError: of two kinds, or only some of a part; a Parquet file is damaged or lacks a column.
        UsageError: pyarrow is missing.
    """
    files = list(endings)
    if len(kinds := sorted(set(endings.values()))) > 1:
        raise DataError(f"{origin}: both {' and '.join(kinds)} files. Name a folder with one kind.")
    without = [file.name for file in files if file.part is None]
    if without and len(without) < len(files):
        raise DataError(
            f"{origin}: some files are of a part (train, val, test) by their names, {some(without)} not. Rename them."
        )
    if kinds == [".tar"]:
        return HubFiles(files, TarFormat(config.label_column, config.label_names), origin, config.label_names or ())
    if config.read == "mapped":
        from ptft.data.sources.hub_names import open_parquet

        return open_parquet(files, origin, config)
    require("pyarrow", config)
    parquet = ParquetFormat.of(files[0], config.image_column, config.label_column, config.label_names)
    return HubFiles(files, parquet, origin, parquet.columns.names or ())


def require(package: str, config: "Hub") -> None:
    """Makes sure that a package of the extra `hub` is there.

    Raises:
        UsageError: it is not.
    """
    try:
        __import__(package)
    except ImportError:
        raise UsageError(
            f"data.path: {printable(config.path)} needs the package {package}. pip install 'ptft[hub]'"
        ) from None
