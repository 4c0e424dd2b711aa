"""Images in class folders, with or without train, val and test folders above them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from ptft.data.records import Part, Record, Source
from ptft.data.sources.base import PART_NAMES, DataConfig, PathText
from ptft.data.sources.listing import (
    existing_folder,
    has_images,
    listing,
    passed_over,
    printable,
    some,
    sub_folders,
    told_others,
)
from ptft.errors import DataError
from ptft.paths import user_path

_LAYOUT = """ptft needs one folder per class:
    {root}/
      cat/    1.jpg 2.jpg ...
      dog/    3.jpg ...
or the same below part folders:
    {root}/
      train/  cat/ dog/
      val/    cat/ dog/
      test/   cat/ dog/"""

# A set that is only evaluated may hold either of the two parts that are not trained on.
_STAND_INS: dict[Part, tuple[Part, ...]] = {
    "train": ("train",),
    "validation": ("validation", "test"),
    "test": ("test", "validation"),
}


class Folder(DataConfig):
    """a folder of images, DIR/CLASS/* or DIR/train|val|test/CLASS/*"""

    name: Literal["folder"] = "folder"
    """One folder per class, optionally below train, val and test folders."""

    root: PathText = Field(examples=["photos"])
    """The folder. With a `train` folder in it only part folders count, otherwise each folder is a class."""

    def home(self) -> Path:
        """`root`."""
        return user_path(self.root)

    def open(self) -> Source:
        """Lists the images of every class folder.

        Raises:
            DataError: no such folder, no class folders, classes without an image, fewer than two classes, or
                val or test without train.
        """
        root = existing_folder(self.root)
        parts, skips = _part_folders(root), self.on_bad_image == "skip"
        if parts and "train" not in parts:
            raise DataError(
                f"{printable(root)}: has {some(parts.values())} but no train folder. Add one, or, "
                "if these are classes, rename them."
            )
        records: list[Record] = []
        others: Counter[str] = Counter()
        for part, name in parts.items() if parts else [(None, "")]:
            records += _read(root, name, part, others, with_lost=skips)
        classes = _classes([record for record in records if record.part in (None, "train")])
        if len(classes) < 2:
            raise _only_one_class(root / parts.get("train", ""), classes[0])
        return Source(records, classes, _origin(root), passed_over(others))


def open_parts(root: str, part: Part = "test") -> Source:
    """Lists the images of a folder of which one part is wanted, as for evaluation.

    With part folders below `root`: the one of `part`, or of validation and test the one that is there.
    Otherwise: every class folder. One class is enough.

    Args:
        root: the folder as the user typed it.
        part: the part that every record gets.

    Raises:
        DataError: as `Folder.open`, or none of the part folders is the wanted one.
    """
    folder = existing_folder(root)
    parts = _part_folders(folder)
    wanted = [parts[stand_in] for stand_in in _STAND_INS[part] if stand_in in parts]
    if parts and not wanted:
        expected = " or ".join("val" if name == "validation" else name for name in _STAND_INS[part])
        raise DataError(
            f"{printable(folder)}: has {some(parts.values())} but no {expected} folder. Name the folder that "
            "holds the class folders, for example "
            f"{printable(folder / next(iter(parts.values())))}."
        )
    others: Counter[str] = Counter()
    records = _read(folder, wanted[0] if wanted else "", part, others)
    return Source(records, _classes(records), _origin(folder), passed_over(others))


def _part_folders(root: Path) -> dict[Part, str]:
    found: dict[Part, str] = {}
    for name in sub_folders(root):
        part = PART_NAMES.get(name.lower())
        if part is None:
            continue
        if part in found:
            raise DataError(
                f"{printable(root)}: both {found[part]} and {name} would be the {part} part. Merge them or rename one."
            )
        found[part] = name
    return found


def _read(root: Path, prefix: str, part: Part | None, others: Counter[str], *, with_lost: bool = False) -> list[Record]:
    """The images of every class folder; counts in `others` the endings of files that are none."""
    base = root / prefix
    names = sub_folders(base)
    if not names:
        raise _no_class_folders(root, prefix)
    if len(set(map(printable, names))) < len(names):
        alike = [name for name in names if sum(printable(other) == printable(name) for other in names) > 1]
        raise DataError(f"{printable(base)}: class folders whose names print alike: {some(alike)}. Rename one.")
    found = {name: listing(base / name, with_lost=with_lost) for name in names}
    if empty := [name for name in names if not found[name].images]:
        instead = told_others(sum((found[name].others for name in empty), Counter()))
        raise DataError(
            f"{printable(root)}: {len(empty)} class folder{'s' if len(empty) > 1 else ''} without an image: "
            f"{some(f'{prefix}/{name}' if prefix else name for name in empty)}{f', but {instead}' if instead else ''}. "
            "Add images (.jpg, .png, .webp, ...) or remove the folder."
        )
    for name in names:
        others.update(found[name].others)
    head = f"{prefix}/" if prefix else ""
    return [
        Record(Path(base, f"{name}/{path}"), label, part, printable(f"{head}{name}/{path}"))
        for name, label in zip(names, map(printable, names), strict=True)
        for path in found[name].images
    ]


def _classes(records: Sequence[Record]) -> tuple[str, ...]:
    return tuple(sorted({record.label for record in records if record.label is not None}))


def _origin(root: Path) -> str:
    return f"folder {printable(root)}"


def _no_class_folders(root: Path, prefix: str) -> DataError:
    base = root / prefix
    layout = _LAYOUT.format(root=printable(root))
    if not has_images(base):
        return DataError(f"{printable(base)}: the folder holds no class folders and no images. {layout}")
    message = f"{printable(base)}: images lie directly in this folder, without class folders. "
    if prefix:
        message += f"A folder named {prefix} is read as a part; if it is a class here, rename it. "
    return DataError(message + layout)


def _only_one_class(base: Path, name: str) -> DataError:
    message = f"{printable(base)}: only one class, {name}; a classifier needs at least two."
    # The usual cause: an archive that was unpacked into a folder of its own name.
    inner = [child for child in sub_folders(base) if sub_folders(base / child)]
    if inner:
        message += f" Did you mean {printable(base / inner[0])}?"
    return DataError(message)
