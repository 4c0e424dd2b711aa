"""Finds and reads the four IDX files of MNIST and its relatives, wherever users keep them."""

from pathlib import Path

from ptft.data.records import Part
from ptft.data.sources.embedded import FASHION_CLASSES
from ptft.data.sources.idx import read_pair
from ptft.data.sources.listing import file_mode, printable
from ptft.data.sources.torchvision_readers import Item
from ptft.errors import DataError

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

MNIST_CLASSES: dict[str, tuple[str, ...]] = {
    "MNIST": tuple(f"{digit} - {name}" for digit, name in enumerate(_DIGITS)),
    "FashionMNIST": FASHION_CLASSES,
    "KMNIST": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}
"""Class names, as torchvision's, of the sets that come in these four files."""

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
"""Names of the four files, without the .gz they may have."""


def read_mnist(root: Path, dataset: str, *, complete: bool = True) -> dict[Part, list[Item]] | None:
    """Images and label indices of the two parts; None when none of the four files is there.

    Looks in `root`, `root/raw` and torchvision's `root/DATASET/raw`.

    Args:
        root: the folder that the user named.
        dataset: a key of MNIST_CLASSES.
        complete: whether some of the files without the others are an error; otherwise they count as none.

    Raises:
        DataError: only some of the files are there, or one is damaged.
    """
    files = _find(root, dataset, complete)
    if files is None:
        return None
    num_classes = len(MNIST_CLASSES[dataset])
    return {"train": _items(files[0], files[1], num_classes), "test": _items(files[2], files[3], num_classes)}


def _find(root: Path, dataset: str, complete: bool) -> list[Path] | None:
    for folder in (root, root / "raw", root / dataset / "raw"):
        found = {name: _file(folder, name) for name in MNIST_FILES}
        files = [path for path in found.values() if path is not None]
        if len(files) == len(MNIST_FILES):
            return files
        if files and complete:
            missing = ", ".join(name for name, path in found.items() if path is None)
            raise DataError(f"{dataset} in {printable(folder)} is incomplete: there is no {missing}.")
    return None


def _file(folder: Path, name: str) -> Path | None:
    """The file under the names in use: `images-idx3` as published, `images.idx3` as on Kaggle."""
    spellings = (name, name.replace("-idx", ".idx"))
    candidates = [folder / (spelling + suffix) for spelling in spellings for suffix in ("", ".gz")]
    return next((path for path in candidates if file_mode(path) is not None), None)


def _items(images: Path, labels: Path, num_classes: int) -> list[Item]:
    pixels, indices = read_pair(images, labels)
    if indices.size and indices.max() >= num_classes:
        raise DataError(f"{printable(labels)}: label {indices.max()}, but there are {num_classes} classes.")
    return list(zip(pixels, indices.tolist(), strict=True))
