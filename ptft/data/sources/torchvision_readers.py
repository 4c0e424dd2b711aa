"""Takes images and label indices out of torchvision's data sets, each from where that set keeps them.

Every reader maps a data set to a list of (image, label index or None). Files become paths, so that ptft
decodes them as it decodes any other file; only sets inside a database are opened through a function.
"""

import functools
import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Item = tuple[Path | np.ndarray | Callable[[], Image.Image], int | None]
Reader = Callable[[Any], Sequence[Item]]


def arrays(labels: str) -> Reader:
    """Sets that keep pixels in `data` and label indices in the attribute `labels`."""

    def read(dataset: Any) -> Sequence[Item]:
        return _pixels(dataset.data, getattr(dataset, labels))

    return read


def pairs(samples: str) -> Reader:
    """Sets that keep (path, label index) pairs in the attribute `samples`."""

    def read(dataset: Any) -> Sequence[Item]:
        return _paths(getattr(dataset, samples))

    return read


def files(paths: str, labels: str) -> Reader:
    """Sets that keep paths and label indices in two attributes."""

    def read(dataset: Any) -> Sequence[Item]:
        return _paths(zip(getattr(dataset, paths), getattr(dataset, labels), strict=True))

    return read


def qmnist(dataset: Any) -> Sequence[Item]:
    """Eight numbers per image (N, 8): the first is the digit."""
    return _pixels(dataset.data, dataset.targets[:, 0])


def fer2013(dataset: Any) -> Sequence[Item]:
    """Tensors with labels; None where the csv file holds no test labels."""
    return [(np.asarray(image), None if label is None else int(label)) for image, label in dataset._samples]


def fake_data(dataset: Any) -> Sequence[Item]:
    """Made here and now: each image seeds torch's global generator, which threads must not do."""
    return [(np.asarray(image), label) for image, label in (dataset[index] for index in range(len(dataset)))]


def caltech101(dataset: Any) -> Sequence[Item]:
    """Numbered files in a folder per category."""
    base = Path(dataset.root, "101_ObjectCategories")
    return [
        (base / dataset.categories[label] / f"image_{number:04d}.jpg", label)
        for label, number in zip(dataset.y, dataset.index, strict=True)
    ]


def caltech256(dataset: Any) -> Sequence[Item]:
    """Numbered files in a numbered folder per category."""
    base = Path(dataset.root, "256_ObjectCategories")
    return [
        (base / dataset.categories[label] / f"{label + 1:03d}_{number:04d}.jpg", label)
        for label, number in zip(dataset.y, dataset.index, strict=True)
    ]


def omniglot(dataset: Any) -> Sequence[Item]:
    """Files in a folder per character."""
    base = Path(dataset.target_folder)
    return [(base / dataset._characters[label] / name, label) for name, label in dataset._flat_character_images]


def inaturalist(dataset: Any) -> Sequence[Item]:
    """Files in a folder per category."""
    base = Path(dataset.root)
    return [(base / dataset.all_categories[label] / name, label) for label, name in dataset.index]


def pcam(dataset: Any) -> Sequence[Item]:
    """Images inside an HDF5 file, opened one by one; labels (N, 1, 1, 1) in a second one."""
    _, (targets_file, *_) = dataset._FILES[dataset._split].values()
    with dataset.h5py.File(dataset._base_folder / targets_file) as targets:
        labels = targets["y"][:, 0, 0, 0].tolist()
    return [(functools.partial(_image_of, dataset, index), label) for index, label in enumerate(labels)]


def lsun(dataset: Any) -> Sequence[Item]:
    """Encoded images inside one database per class."""
    return [
        (functools.partial(_lsun_image, database, key), label)
        for label, database in enumerate(dataset.dbs)
        for key in database.keys
    ]


def synset_names(dataset: Any) -> Sequence[str]:
    """The first synonym of every WordNet class, with the WordNet id where two classes share it (crane)."""
    names = [synonyms[0] for synonyms in dataset.classes]
    count = Counter(names)
    return [name if count[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, dataset.wnids, strict=True)]


def _image_of(dataset: Any, index: int) -> Image.Image:
    image = dataset[index][0]
    assert isinstance(image, Image.Image)
    return image


def _lsun_image(database: Any, key: bytes) -> Image.Image:
    with database.env.begin(write=False) as transaction:
        return Image.open(io.BytesIO(transaction.get(key)))


def _paths(samples: Any) -> Sequence[Item]:
    return [(Path(path), None if label is None else int(label)) for path, label in samples]


def _pixels(data: Any, labels: Any) -> Sequence[Item]:
    """Items of uint8 images (N, H, W), (N, H, W, 3) or (N, 3, H, W)."""
    images = np.asarray(data)
    if images.ndim == 4 and images.shape[1] == 3 and images.shape[3] != 3:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return list(zip(images, np.asarray(labels).tolist(), strict=True))
