"""Any classification data set of torchvision, by its name there."""

import contextlib
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from ptft.data.records import Part, Record, Source
from ptft.data.sources.base import DataConfig, PathText
from ptft.data.sources.listing import file_mode, printable
from ptft.data.sources.mnist import MNIST_CLASSES, MNIST_FILES, read_mnist
from ptft.data.sources.torchvision_readers import Item
from ptft.data.sources.torchvision_sets import SETS, Parts, TorchvisionSet
from ptft.errors import DataError
from ptft.paths import user_path

Dataset = Literal[
    "CIFAR10",
    "CIFAR100",
    "CLEVRClassification",
    "Caltech101",
    "Caltech256",
    "Country211",
    "DTD",
    "EMNIST",
    "EuroSAT",
    "FER2013",
    "FGVCAircraft",
    "FakeData",
    "FashionMNIST",
    "Flowers102",
    "Food101",
    "GTSRB",
    "INaturalist",
    "ImageNet",
    "Imagenette",
    "KMNIST",
    "LFWPeople",
    "LSUN",
    "MNIST",
    "Omniglot",
    "OxfordIIITPet",
    "PCAM",
    "Places365",
    "QMNIST",
    "RenderedSST2",
    "SEMEION",
    "STL10",
    "SUN397",
    "SVHN",
    "StanfordCars",
    "USPS",
]

_SILENCE_SECONDS = 30.0
_OTHER_ADVICE = re.compile(r"You can (use|set) download=True to download it\.?")


class Torchvision(DataConfig):
    """a data set that torchvision knows: CIFAR10, MNIST, Flowers102, ... (`dataset`, `root`, `download`)"""

    name: Literal["torchvision"] = "torchvision"
    """Reads the files as torchvision lays them out."""

    dataset: Dataset
    """Name of the data set, as in torchvision.datasets."""

    root: PathText | None = None
    """The folder torchvision keeps the set in; required, except for FakeData. For MNIST, FashionMNIST and
    KMNIST the four IDX files may also lie directly in it, plain or gzip."""

    download: bool = False
    """Whether to fetch what is missing from the internet."""

    variant: str | int | None = None
    """Which form of the set, for those that have several; default: the first named here. EMNIST: balanced,
    byclass, bymerge, letters, digits, mnist. DTD: 1 to 10. FGVCAircraft: variant, family, manufacturer.
    Imagenette: full, 320px, 160px. INaturalist: 2021, 2021-mini, 2017, 2018, 2019. LFWPeople: funneled,
    original, deepfunneled. Omniglot: background, evaluation. Places365: large, small."""

    @model_validator(mode="after")
    def _fits_the_set(self) -> Self:
        entry = SETS[self.dataset]
        if self.root is None and entry.files:
            raise ValueError("root is missing. Name the folder that holds the data set, for example root: data")
        if self.download and not entry.downloadable:
            raise ValueError(
                f"torchvision cannot download {self.dataset}. Remove download and put its files under root"
            )
        if self.variant is not None and str(self.variant) not in entry.variants:
            known = ", ".join(name for name in entry.variants if name)
            advice = f"Write one of: {known}" if known else "Remove it"
            raise ValueError(f"{self.dataset} has no variant '{self.variant}'. {advice}")
        return self

    def home(self) -> Path | None:
        """`root`."""
        return None if self.root is None else user_path(self.root)

    def open(self) -> Source:
        """Lists the set, downloading it first when asked to.

        Raises:
            DataError: the files are absent, incomplete or damaged, the download failed, or a package is
                missing.
        """
        entry, root = SETS[self.dataset], user_path(self.root or ".")
        origin = f"torchvision {self.dataset}" + (f" in {printable(root)}" if entry.files else "")
        records, names = self._read_mnist(root) or self._read(entry, root)
        training = {record.label for record in records if record.part in (None, "train")}
        return Source(records, tuple(name for name in names if name in training), origin)

    def _parts(self, entry: TorchvisionSet) -> Parts:
        return entry.variants[next(iter(entry.variants)) if self.variant is None else str(self.variant)]

    def _require_files(self, entry: TorchvisionSet, root: Path) -> None:
        """Says what is missing before torchvision does, which creates folders while looking."""
        if self.download or not entry.files or any(file_mode(root / name) is not None for name in entry.files):
            return
        raise DataError(f"{self.dataset} is not in {printable(root)}. {self._advice(entry, root)}")

    def _advice(self, entry: TorchvisionSet, root: Path) -> str:
        places = " or ".join(printable(root / name) for name in entry.files)
        if self.dataset in MNIST_CLASSES:
            places += f", or {', '.join(MNIST_FILES)} (.gz or not) in {printable(root)}"
        by_hand = f"ut its files where torchvision expects them: {places}."
        return f"Set data.download: true, or p{by_hand}" if entry.downloadable else f"P{by_hand}"

    def _read_mnist(self, root: Path) -> tuple[list[Record], Sequence[str]] | None:
        if self.dataset not in MNIST_CLASSES:
            return None
        # A download that was cut off leaves some of the files; the next one completes them.
        parts = read_mnist(root, self.dataset, complete=not self.download)
        if parts is None:
            return None
        names = MNIST_CLASSES[self.dataset]
        return [r for part, items in parts.items() for r in _records(items, names, part, root, part)], names

    def _read(self, entry: TorchvisionSet, root: Path) -> tuple[list[Record], Sequence[str]]:
        self._require_files(entry, root)
        records: list[Record] = []
        all_names: Sequence[str] = ()
        for part, keywords in self._parts(entry):
            items, names = self._load(entry, root, keywords)
            records += _records(items, names, part, root, part or self.dataset)
            all_names = all_names or names
        return records, all_names

    def _load(
        self, entry: TorchvisionSet, root: Path, keywords: Mapping[str, Any]
    ) -> tuple[Sequence[Item], Sequence[str]]:
        from ptft.vision import torchvision

        location: dict[str, Any] = {"root": str(root)} if entry.files else {}
        if entry.downloadable:
            location["download"] = self.download
        try:
            with _download_manners():
                dataset = getattr(torchvision.datasets, self.dataset)(**location, **keywords)
            return entry.read(dataset), entry.classes(dataset)
        except MemoryError:
            raise
        # torchvision's parsers raise what they like: RuntimeError, OSError, KeyError, lmdb.Error, ...
        except Exception as error:
            raise DataError(self._failure(entry, root, error)) from error

    def _failure(self, entry: TorchvisionSet, root: Path, error: Exception) -> str:
        if isinstance(error, ImportError):
            return f"{self.dataset} needs the package {error.name}: pip install {error.name}."
        text = _OTHER_ADVICE.sub("", " ".join(str(error).split()))
        reason = printable(text.rstrip(". ") or type(error).__name__)
        if "pip install" in reason:
            return f"{self.dataset}: {reason}."
        if self.download:
            return (
                f"{self.dataset} could not be downloaded into {printable(root)}: {reason}. "
                "Check the network, or fetch the files elsewhere and put them there."
            )
        problem = f"{self.dataset} in {printable(root)} is incomplete or damaged: {reason}."
        return f"{problem} {self._advice(entry, root)}"


@contextlib.contextmanager
def _download_manners() -> Iterator[None]:
    """Keeps stdout for results, and ends a download whose server stays silent."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_SECONDS)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _records(items: Sequence[Item], names: Sequence[str], part: Part | None, root: Path, title: str) -> list[Record]:
    """Records of the labelled items; files sorted by path, since some sets list them in the disk's order."""
    labelled = [(image, names[label]) for image, label in items if label is not None]
    files = [Record(image, label, part, _relative(image, root)) for image, label in labelled if isinstance(image, Path)]
    if files:
        return sorted(files, key=lambda record: record.name)
    return [Record(image, label, part, f"{title}[{index}]") for index, (image, label) in enumerate(labelled)]


def _relative(path: Path, root: Path) -> str:
    return printable(path.relative_to(root) if path.is_relative_to(root) else path)
