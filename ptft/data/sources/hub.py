"""Large data: tar shards, Parquet files, and data sets of the Hugging Face hub."""

from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ptft.config.base import Names
from ptft.data.records import Source
from ptft.data.shards.index import index_of
from ptft.data.shards.store import ShardFile, ShardRecords, Shards, Stamp, stamp_of
from ptft.data.sources.base import DataConfig, PathText
from ptft.errors import DataError
from ptft.storage import storage_errors

if TYPE_CHECKING:
    from ptft.data.sources.hub_files import HubFiles

_SHUFFLE_BUFFER = 4096


class Hub(DataConfig):
    """tar shards, Parquet files, or a data set of the Hugging Face hub (`path`, `read`); `ptft pack` writes shards

    Nothing is unpacked. The first run reads every file once, to know where each image lies, of what class it is and
    that it is intact; what it found is kept in ptft's cache folder for the runs after it.
    """

    name: Literal["hub"] = "hub"
    """Images inside larger files, of which there may be more than fit in memory."""

    path: PathText = Field(examples=["shards"])
    """A folder of tar shards (`ptft pack`, or any in the layout of webdataset) or of Parquet files, one such file, a
    folder that `datasets` saved to disk, or the name of a data set on the hub, for example uoft-cs/cifar10. Files or
    folders named train, val and test, also in part (train-00001.tar), are these parts."""

    read: Literal["memory", "mapped", "streaming"] = "memory"
    """When images are decoded, and in which order they come. memory: all at the start, kept where they fit, as other
    sources. mapped: each when it is asked for, in the same order as memory; nothing at the start. streaming: likewise,
    but shard after shard, shuffled within `shuffle_buffer`: for files on a network or a slow disk. The last two need
    `image_size`, except in finetune."""

    shuffle_buffer: int | None = Field(default=None, ge=1)
    """With `read: streaming`, how many images are shuffled together; default: 4096. Larger mixes better and reads from
    more shards at a time."""

    image_column: str | None = Field(default=None, min_length=1)
    """Parquet and hub: the column of images; default: the one there is."""

    label_column: str | None = Field(default=None, min_length=1)
    """The column of classes; default: the one that the data set marks as such, else `label`. Of tar shards: the ending
    of the member, or the key in KEY.json, that holds the class; default: `cls`, else `label` or `class` in KEY.json."""

    label_names: Names | None = None
    """Names of the classes 0, 1, 2, ... where the data have only numbers; default: those the data set has, else the
    numbers themselves."""

    subset: str | None = Field(default=None, min_length=1)
    """Which configuration of a data set on the hub, for those that have several. With a folder as `path` it says that
    the folder is laid out as those of the hub are; `default` where it names no configurations."""

    revision: str | None = Field(default=None, min_length=1)
    """Which branch, tag or commit of a data set on the hub; default: main."""

    download: bool = False
    """Whether to fetch what is missing from the hub."""

    @model_validator(mode="after")
    def _streams_what_it_can(self) -> Self:
        if self.read != "memory" and self.on_bad_image == "skip":
            raise ValueError(
                f"on_bad_image: skip goes with read: memory, which decodes every image at the start; with read: "
                f"{self.read} a bad image is met in the middle. `ptft pack` can leave bad images out."
            )
        if self.shuffle_buffer is not None and self.read != "streaming":
            raise ValueError(f"shuffle_buffer goes with read: streaming, not with read: {self.read}.")
        return self

    @property
    def decodes_later(self) -> bool:
        return self.read != "memory"

    @property
    def window(self) -> int | None:
        return (self.shuffle_buffer or _SHUFFLE_BUFFER) if self.read == "streaming" else None

    def open(self) -> Source:
        """Finds the files and every image in them.

        Raises:
            DataError: nothing there, not on the hub or no network, damaged files, images without a class.
            UsageError: a package is missing.
        """
        from ptft.data.shards.manifest import check_counts
        from ptft.data.sources.hub_files import find_files

        found = find_files(self)
        stamps = [_stamp(file) for file in found.files]
        index = index_of(found.files, found.format, stamps)
        if found.manifest is not None:
            check_counts(found.manifest, found.files, index)
        shards = Shards(found.files, found.format, index, stamps)
        records = ShardRecords(shards, np.arange(len(index)))
        return Source(records, _classes(found, shards), found.origin)


def _stamp(file: ShardFile) -> Stamp:
    with storage_errors(file.path, "read"):
        return stamp_of(file.path)


def _classes(found: "HubFiles", shards: Shards) -> tuple[str, ...]:
    """Classes of the training images: in the order of the manifest or of the data set's own list, else sorted."""
    rows, files = shards.index.rows, shards.files
    is_training = np.array([file.part in (None, "train") for file in files])
    labels = np.unique(rows["label"][is_training[rows["file"]]])
    present = {shards.index.labels[label] for label in labels.tolist()}
    if not present:
        raise DataError(f"{found.origin}: no training images.")
    if len(present) < 2:
        raise DataError(f"{found.origin}: only one class, {next(iter(present))}; a classifier needs at least two.")
    known = found.manifest.classes if found.manifest else found.classes
    return tuple(name for name in known if name in present) or tuple(sorted(present))
