"""Which column of a table holds the images and which the classes, and what a cell of it says."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ptft.data.shards.tar import named
from ptft.data.sources.listing import printable, some
from ptft.errors import DataError

_IMAGE_NAMES = ("image", "img", "jpg", "png")
_LABEL_NAMES = ("label", "labels", "class")


@dataclass(frozen=True)
class Columns:
    """The two columns that are read.

    Attributes:
        image, label: their names.
        is_struct: whether an image is `{bytes, path}`, as Hugging Face `datasets` writes them, or plain bytes.
        names: class names that numbers in the label column stand for; None where labels are taken as they are.
    """

    image: str
    label: str
    is_struct: bool
    names: tuple[str, ...] | None

    @property
    def leaf(self) -> str:
        """Path of the bytes in a Parquet schema."""
        return f"{self.image}.bytes" if self.is_struct else self.image

    def label_of(self, cell: object, where: str) -> str:
        """The class that a cell of the label column names.

        Raises:
            DataError: the cell is empty, is no text or whole number, or a number without a name.
        """
        if cell is None or cell == "" or not isinstance(cell, str | int):
            raise DataError(f"{where}: no class in column {printable(self.label)} ({cell!r}).")
        return named(str(cell), self.names, where)


def find_columns(
    schema: Any, where: str, image: str | None, label: str | None, names: tuple[str, ...] | None
) -> Columns:
    """Picks the columns of an Arrow schema.

    Args:
        schema: pyarrow.Schema, perhaps with the features that `datasets` notes in it.
        where: the file, for messages.
        image, label: what the config says; None to find them.
        names: likewise, of numbered classes.

    Raises:
        DataError: no such column, or none to be found.
    """
    import pyarrow

    def holds_images(kind: Any) -> bool:
        if pyarrow.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

    features = _features(schema)
    candidates = [field.name for field in schema if holds_images(field.type)]
    classes = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    chosen = _choose(image, candidates, _IMAGE_NAMES, schema.names, where, "image")
    others = [name for name in schema.names if name not in candidates]
    usual = classes or [name for name in _LABEL_NAMES if name in others]
    target = _choose(label, usual, _LABEL_NAMES, schema.names, where, "label")
    own = features.get(target, {}).get("names")
    known = tuple(map(str, own)) if isinstance(own, list) and own else None
    return Columns(chosen, target, pyarrow.types.is_struct(schema.field(chosen).type), names or known)


def _choose(
    wanted: str | None, candidates: Sequence[str], usual: Sequence[str], all_names: Sequence[str], where: str, what: str
) -> str:
    if wanted is not None and wanted in all_names:
        return wanted
    preferred = [name for name in usual if name in candidates] or list(candidates)
    if wanted is None and (len(candidates) == 1 or (preferred and preferred[0] in usual)):
        return preferred[0]
    problem = f"no column {printable(wanted)}" if wanted else f"several {what} columns are possible"
    if wanted is None and not candidates:
        problem = f"no {what} column was found"
    raise DataError(f"{where}: {problem}; the columns are {some(all_names)}. Name yours in data.{what}_column.")


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What `datasets` notes of the columns in a schema; empty where it wrote nothing."""
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
