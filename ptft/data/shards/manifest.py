"""The list that `ptft pack` writes beside its shards, and holding the shards against it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from ptft.config.base import Config, Names
from ptft.data.records import Part
from ptft.data.shards.index import Index
from ptft.data.shards.store import ShardFile
from ptft.data.sources.listing import is_file, printable
from ptft.errors import DataError
from ptft.storage import storage_errors

MANIFEST = "manifest.json"
_MAX_BYTES = 1 << 28


class ShardEntry(Config):
    """One shard."""

    file: str
    """Its name in the folder."""

    part: Part | None
    """The part that its images belong to; null when ptft is to split."""

    num_images: int
    """Images in it."""

    num_bytes: int
    """Size of the file."""

    sha256: str
    """SHA-256 of the file."""


class Manifest(Config):
    """What a folder of packed shards holds."""

    format: Literal["ptft shards 1"] = "ptft shards 1"
    """Layout of the shards: KEY.jpg or the like, and KEY.json with `label` and `name`; KEY is the image's place."""

    origin: str
    """What was packed."""

    classes: Names
    """Class names, in the order of the source."""

    counts: dict[str, dict[str, int]]
    """Images of each class in each part; the part is `images` where ptft is to split."""

    shards: Annotated[tuple[ShardEntry, ...], Field(strict=False)]
    """The shards, in order."""

    @property
    def num_images(self) -> int:
        """In all shards."""
        return sum(shard.num_images for shard in self.shards)


def is_packed(folder: Path) -> bool:
    """Whether `ptft pack` wrote this folder."""
    return is_file(folder / MANIFEST)


def part_name(part: Part | None) -> str:
    """What a part is called in file names and in `counts`."""
    return part or "images"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where there is none.

    Raises:
        DataError: it is no manifest of ptft.
        StorageError: it cannot be read.
    """
    if not is_packed(folder):
        return None
    path = folder / MANIFEST
    with storage_errors(path, "read"):
        text = path.read_bytes()[:_MAX_BYTES]
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{printable(path)}: not a manifest that `ptft pack` wrote ({where}: {first['msg']})."
        ) from error


def write_manifest(manifest: Manifest) -> str:
    """The text of a manifest."""
    return json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def check_files(manifest: Manifest, folder: Path) -> None:
    """Holds the sizes of the shards against the manifest, which costs nothing, before anything else is done.

    Raises:
        DataError: a shard is missing, or not as large as it was written.
    """
    for shard in manifest.shards:
        path = folder / shard.file
        if Path(shard.file).name != shard.file or not is_file(path):
            raise DataError(f"{printable(folder)}: shard {printable(shard.file)} of the manifest is missing.")
        if (size := path.stat().st_size) != shard.num_bytes:
            raise DataError(
                f"{printable(path)}: {size:,} bytes, {shard.num_bytes:,} in the manifest. Copy or pack it again."
            )


def check_counts(manifest: Manifest, files: Sequence[ShardFile], index: Index) -> None:
    """Holds the numbers of images, by part and class, against the manifest.

    Raises:
        DataError: they differ.
    """
    num_labels = max(1, len(index.labels))
    keys = index.rows["file"].astype(np.int64) * num_labels + index.rows["label"]
    table = np.bincount(keys, minlength=len(files) * num_labels).reshape(len(files), num_labels)
    counted: dict[str, dict[str, int]] = {}
    for file, shard, row in zip(files, manifest.shards, table.tolist(), strict=True):
        if sum(row) != shard.num_images:
            raise DataError(f"{file.name}: {sum(row):,} images, {shard.num_images:,} in the manifest. Pack it again.")
        part = counted.setdefault(part_name(file.part), {})
        for name, count in zip(index.labels, row, strict=False):
            part[name] = part.get(name, 0) + count
    if _without_zeros(counted) != _without_zeros(manifest.counts):
        raise DataError(
            f"{printable(files[0].path.parent)}: other numbers of images of the classes than in the manifest. Pack it "
            "again."
        )


def _without_zeros(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {part: {name: n for name, n in classes.items() if n} for part, classes in counts.items()}
