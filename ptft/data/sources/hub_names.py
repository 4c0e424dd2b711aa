"""Data sets through Hugging Face `datasets`: by name on the hub, saved to disk, or Parquet as memory-mapped Arrow.

`datasets` finds and fetches the files, and makes the Arrow tables; it decodes nothing. Its own reader of tar shards is
never used: it decodes every member by its ending, among them `.pth`, `.npy`, `.npz` and compressed ones.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptft.data.records import Part
from ptft.data.shards.arrow import ArrowFormat
from ptft.data.shards.store import ShardFile
from ptft.data.sources.base import PART_NAMES
from ptft.data.sources.hub_files import HubFiles, files_of, require
from ptft.data.sources.listing import printable, some
from ptft.errors import DataError, PtftError

if TYPE_CHECKING:
    from ptft.data.sources.hub import Hub

_ENDINGS = {"parquet": ".parquet", "webdataset": ".tar"}
_BUILT = ("arrow", "imagefolder")
"""Builders of `datasets` that are let run: they read tables and list files, and decode nothing."""


def fetch(config: "Hub") -> HubFiles:
    """A data set of the hub: its repository in the cache of `huggingface_hub`, fetched where `download` allows it.

    Raises:
        DataError: not in the cache and not to be fetched, no such data set, or one of files that are not read.
        UsageError: `datasets` is missing.
    """
    require("datasets", config)
    import huggingface_hub

    what = f"data.path: {printable(config.path)}: no such file or folder here, and"
    advice = "Without a network, copy the cache (HF_HOME) of a machine with one, or name a folder of its Parquet files."
    if not config.download and not _is_kept(config):
        raise DataError(f"{what} not in the cache of the hub. Set data.download: true to fetch it. {advice}")
    with _one_line(f"{what} not to be had from the hub", advice), _quiet(offline=not config.download):
        folder = huggingface_hub.snapshot_download(
            config.path, repo_type="dataset", revision=config.revision, local_files_only=not config.download
        )
    return open_repository(Path(folder), f"{printable(config.path)} of the Hugging Face hub", config)


def _is_kept(config: "Hub") -> bool:
    """Whether the cache of the hub has the data set."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        huggingface_hub.snapshot_download(
            config.path, repo_type="dataset", revision=config.revision, local_files_only=True
        )
    except (LocalEntryNotFoundError, ValueError):  # ValueError: no name that a data set could have
        return False
    return True


def open_repository(folder: Path, origin: str, config: "Hub") -> HubFiles:
    """A folder laid out as data sets on the hub are; `datasets` says which files are of which subset and split.

    Raises:
        DataError: several subsets and none is named, no data files, or files that are not read.
        UsageError: `datasets` is missing.
    """
    require("datasets", config)
    import datasets

    with _one_line(f"{origin}: `datasets` finds no data set in it", "See its page on the hub."), _quiet(offline=True):
        names = datasets.get_dataset_config_names(str(folder))
        if config.subset not in names and (config.subset or len(names) > 1):
            raise DataError(f"{origin}: its subsets are {some(names)}. Name one of them in data.subset.")
        builder = datasets.load_dataset_builder(str(folder), config.subset)
        kind, files = type(builder).__module__.rpartition(".")[2], builder.config.data_files
        if files and kind in _ENDINGS:
            return _files({str(split): own for split, own in files.items()}, _ENDINGS[kind], origin, config)
        if kind not in _BUILT:
            raise DataError(f"{origin}: made of {kind} files; Parquet, tar, Arrow files and image folders are read.")
        builder.download_and_prepare()
        return _tables(builder.as_dataset(), origin, config)


def open_saved(folder: Path, config: "Hub") -> HubFiles:
    """A folder that `save_to_disk` of `datasets` wrote.

    Raises:
        DataError: it is damaged.
        UsageError: `datasets` is missing.
    """
    require("datasets", config)
    import datasets

    origin = f"data set in {printable(folder)}"
    with _one_line(f"{origin}: `datasets` cannot read it", "Save it again."), _quiet(offline=True):
        return _tables(datasets.load_from_disk(str(folder)), origin, config)


def open_parquet(files: Sequence[ShardFile], origin: str, config: "Hub") -> HubFiles:
    """Parquet files as Arrow tables in the cache of `datasets`, where any row is read without its neighbours.

    Raises:
        DataError: they are damaged.
        UsageError: `datasets` is missing.
    """
    require("datasets", config)
    import datasets

    # `datasets` takes letters, digits and underscores for the names of parts.
    names: dict[str, Part | None] = {file.part or "images": file.part for file in files}
    paths = {name: [str(file.path) for file in files if file.part == part] for name, part in names.items()}
    with _one_line(f"{origin}: `datasets` cannot read it", "Fetch it again."), _quiet(offline=True):
        return _tables(datasets.load_dataset("parquet", data_files=paths), origin, config, names)


def _files(paths: Mapping[str, Sequence[str]], ending: str, origin: str, config: "Hub") -> HubFiles:
    """The files of each split, for our own readers."""
    parts = _parts(list(paths), origin)
    origin = _without(origin, list(paths), parts)
    files = {
        ShardFile(Path(path), f"{split}[{number}]", parts[split]): ending
        for split, own in paths.items()
        if split in parts
        for number, path in enumerate(own)
    }
    return files_of(files, origin, config)


def _tables(found: Any, origin: str, config: "Hub", parts: Mapping[str, Part | None] | None = None) -> HubFiles:
    """The splits of a data set as memory-mapped tables."""
    splits = dict(found) if isinstance(found, dict) else {str(found.split or "images"): found}
    parts = _parts(list(splits), origin) if parts is None else parts
    origin = _without(origin, list(splits), parts)
    tables, files = {}, []
    for split, part in parts.items():
        path = _path_of(splits[split])
        tables[path] = splits[split]
        files.append(ShardFile(path, split, part))
    form = ArrowFormat.of(tables, origin, config.image_column, config.label_column, config.label_names)
    return HubFiles(files, form, origin, form.columns.names or ())


def _path_of(table: Any) -> Path:
    if not table.cache_files:
        raise DataError("the data set is empty, or not on disk")
    return Path(table.cache_files[0]["filename"])


def _parts(splits: Sequence[str], origin: str) -> dict[str, Part | None]:
    """The part of each split; of a single split, whatever its name, ptft makes the parts."""
    known: dict[str, Part | None] = {split: PART_NAMES[split] for split in splits if split in PART_NAMES}
    if len(splits) == 1:
        return {splits[0]: None}
    if "train" not in known.values():
        raise DataError(f"{origin}: its splits are {some(splits)}; none is called train.")
    return known


def _without(origin: str, splits: Sequence[str], parts: Mapping[str, Part | None]) -> str:
    """The phrase for messages, with the splits that are no part of ptft's."""
    left_out = [split for split in splits if split not in parts]
    return f"{origin} (without {some(left_out)})" if left_out else origin


@contextlib.contextmanager
def _one_line(what: str, advice: str) -> Iterator[None]:
    """Turns whatever `datasets` and what is below it raise into one line: what, the reason, and the advice."""
    try:
        yield
    except (PtftError, MemoryError):
        raise
    # Errors of datasets, huggingface_hub, requests, fsspec and pyarrow come through here.
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = printable(lines[0].rstrip(".") if lines else type(error).__name__)
        raise DataError(f"{what} ({reason}). {advice}") from error


@contextlib.contextmanager
def _quiet(*, offline: bool) -> Iterator[None]:
    """Keeps stdout for results and the network for those who asked for it."""
    import datasets
    import huggingface_hub

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        huggingface_hub.utils.disable_progress_bars()  # type: ignore[attr-defined]
    datasets.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    places = [(datasets.config, "HF_HUB_OFFLINE"), (huggingface_hub.constants, "HF_HUB_OFFLINE")]
    before = [getattr(place, name) for place, name in places]
    try:
        for place, name in places:
            setattr(place, name, offline or getattr(place, name))
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for (place, name), value in zip(places, before, strict=True):
            setattr(place, name, value)
