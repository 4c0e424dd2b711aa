"""The one record type that every source yields, before any pixel is decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from ptft.data.shards.store import Shards

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
HELD_OUT: tuple[Part, ...] = ("validation", "test")


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image file inside a larger file.

    Attributes:
        shards: all that lie there.
        row: which of them.
    """

    shards: "Shards"
    row: int

    @property
    def num_bytes(self) -> int:
        """Its size."""
        return self.shards.size(self.row)

    def read(self) -> bytes:
        """Its content.

        Raises:
            OSError: the larger file cannot be read, or is no longer what it was.
        """
        return self.shards.read(self.row)


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled image.

    Attributes:
        image: a file to decode, or one inside a larger file; pixels, uint8 (H, W) or (H, W, 3); or a function that
            opens the image.
        label: the class *name*; None where the source has none (prediction), or the task is not single-label.
        part: the part the source assigns it to; None when ptft is to split.
        name: what messages, fingerprints and splits call it: a path relative to the root, or `train[17]`.
            Unique within its source.
        labels: names of all its classes, perhaps none, in a multi-label task.
        targets: its numbers in a regression, in the order of the source's classes.
    """

    image: Path | Encoded | np.ndarray | Callable[[], Image.Image]
    label: str | None
    part: Part | None
    name: str
    labels: tuple[str, ...] = ()
    targets: tuple[float, ...] = ()


@dataclass(frozen=True)
class Source:
    """What a data source found.

    Attributes:
        records: in a stable order.
        classes: every class name in the source's own order (sorted for folders); of a regression its targets' names.
        origin: one phrase for messages, for example `folder photos/`.
        passed_over: the sentence about files among the images that are not named as such; empty for none.
    """

    records: Sequence[Record]
    classes: tuple[str, ...]
    origin: str
    passed_over: str = ""
