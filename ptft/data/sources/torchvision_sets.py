"""What ptft knows of each classification set of torchvision: its parts, where its files and labels are.

Static, so that a config can be checked without importing torch; `tests/data/test_sources_torchvision.py`
holds the table against the installed torchvision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptft.data.records import PARTS, Part
from ptft.data.sources import torchvision_readers as readers
from ptft.data.sources.torchvision_readers import Item

Parts = tuple[tuple[Part | None, Mapping[str, Any]], ...]
"""The parts of a set, each with the arguments that make torchvision's class read it."""


@dataclass(frozen=True)
class TorchvisionSet:
    """One set.

    Attributes:
        variants: the parts of each variant; the first is the default. "" is the only key of a set without.
        read: (torchvision data set) -> its images and label indices, decoding nothing where possible.
        classes: (torchvision data set) -> class names, indexed by label.
        files: what lies under the root when the set is there; any one of these.
        downloadable: whether torchvision can fetch it.
    """

    variants: Mapping[str, Parts]
    read: Callable[[Any], Sequence[Item]]
    classes: Callable[[Any], Sequence[str]]
    files: tuple[str, ...]
    downloadable: bool = True


def _splits(**parts: str) -> Parts:
    return tuple((part, {"split": parts[part]}) for part in PARTS if part in parts)


_TRAIN_FLAG: Parts = (("train", {"train": True}), ("test", {"train": False}))
_TRAIN_TEST = _splits(train="train", test="test")
_TRAIN_VAL = _splits(train="train", validation="val")
_THREE = _splits(train="train", validation="val", test="test")
_WHOLE: Parts = ((None, {}),)


def _one(parts: Parts) -> dict[str, Parts]:
    return {"": parts}


def _with(parts: Parts, **keywords: str | int | bool) -> Parts:
    return tuple((part, {**own, **keywords}) for part, own in parts)


def _own(dataset: Any) -> Sequence[str]:
    return list(dataset.classes)


def _fixed(*names: str) -> Callable[[Any], Sequence[str]]:
    return lambda dataset: names


def _own_or(*names: str) -> Callable[[Any], Sequence[str]]:
    return lambda dataset: getattr(dataset, "classes", names)


_DIGITS = tuple("0123456789")
_STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_EMNIST = ("balanced", "byclass", "bymerge", "letters", "digits", "mnist")
_INATURALIST: dict[str, Parts] = {
    "2021": (("train", {"version": "2021_train"}), ("validation", {"version": "2021_valid"})),
    "2021-mini": (("train", {"version": "2021_train_mini"}), ("validation", {"version": "2021_valid"})),
    **{year: ((None, {"version": year}),) for year in ("2017", "2018", "2019")},
}
_PLACES = _splits(train="train-standard", validation="val")

_arrays, _pairs, _files = readers.arrays, readers.pairs, readers.files
_target_arrays, _label_arrays = _arrays("targets"), _arrays("labels")
_labelled_files = _files("_image_files", "_labels")


def _mnist(name: str) -> TorchvisionSet:
    return TorchvisionSet(_one(_TRAIN_FLAG), _target_arrays, _own, (name,))


SETS: dict[str, TorchvisionSet] = {
    "CIFAR10": TorchvisionSet(_one(_TRAIN_FLAG), _target_arrays, _own, ("cifar-10-batches-py",)),
    "CIFAR100": TorchvisionSet(_one(_TRAIN_FLAG), _target_arrays, _own, ("cifar-100-python",)),
    "CLEVRClassification": TorchvisionSet(
        # The test images have no labels. The label is the number of objects in the scene.
        _one(_TRAIN_VAL),
        _labelled_files,
        _fixed(*map(str, range(11))),
        ("clevr",),
    ),
    "Caltech101": TorchvisionSet(_one(_WHOLE), readers.caltech101, lambda d: d.categories, ("caltech101",)),
    "Caltech256": TorchvisionSet(_one(_WHOLE), readers.caltech256, lambda d: d.categories, ("caltech256",)),
    "Country211": TorchvisionSet(
        _one(_splits(train="train", validation="valid", test="test")),
        _pairs("samples"),
        _own,
        ("country211",),
    ),
    "DTD": TorchvisionSet({str(n): _with(_THREE, partition=n) for n in range(1, 11)}, _labelled_files, _own, ("dtd",)),
    "EMNIST": TorchvisionSet(
        {split: _with(_TRAIN_FLAG, split=split) for split in _EMNIST}, _target_arrays, _own, ("EMNIST",)
    ),
    "EuroSAT": TorchvisionSet(_one(_WHOLE), _pairs("samples"), _own, ("eurosat",)),
    "FER2013": TorchvisionSet(
        _one(_TRAIN_TEST),
        readers.fer2013,
        _fixed("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
        ("fer2013",),
        downloadable=False,
    ),
    "FGVCAircraft": TorchvisionSet(
        {level: _with(_THREE, annotation_level=level) for level in ("variant", "family", "manufacturer")},
        _labelled_files,
        _own,
        ("fgvc-aircraft-2013b",),
    ),
    "FakeData": TorchvisionSet(
        _one(((None, {"size": 1000, "image_size": (3, 32, 32), "num_classes": 10}),)),
        readers.fake_data,
        _fixed(*_DIGITS),
        (),
        downloadable=False,
    ),
    "FashionMNIST": _mnist("FashionMNIST"),
    "Flowers102": TorchvisionSet(_one(_THREE), _labelled_files, _own_or(*map(str, range(102))), ("flowers-102",)),
    "Food101": TorchvisionSet(_one(_TRAIN_TEST), _labelled_files, _own, ("food-101",)),
    "GTSRB": TorchvisionSet(_one(_TRAIN_TEST), _pairs("_samples"), _fixed(*map(str, range(43))), ("gtsrb",)),
    "INaturalist": TorchvisionSet(
        _INATURALIST,
        readers.inaturalist,
        lambda d: d.all_categories,
        ("2021_train", "2021_train_mini", "2021_valid", "2017", "2018", "2019"),
    ),
    "ImageNet": TorchvisionSet(
        _one(_TRAIN_VAL),
        _pairs("samples"),
        readers.synset_names,
        ("meta.bin", "ILSVRC2012_devkit_t12.tar.gz"),
        downloadable=False,
    ),
    "Imagenette": TorchvisionSet(
        {size: _with(_TRAIN_VAL, size=size) for size in ("full", "320px", "160px")},
        _pairs("_samples"),
        readers.synset_names,
        ("imagenette2", "imagenette2-320", "imagenette2-160"),
    ),
    "KMNIST": _mnist("KMNIST"),
    "LFWPeople": TorchvisionSet(
        # The people of its train and test lists differ, so the ten folds together are one whole.
        {
            image_set: ((None, {"split": "10fold", "image_set": image_set}),)
            for image_set in ("funneled", "original", "deepfunneled")
        },
        _files("data", "targets"),
        lambda d: list(d.class_to_idx),
        ("lfw-py",),
        downloadable=False,
    ),
    "LSUN": TorchvisionSet(
        _one((("train", {"classes": "train"}), ("validation", {"classes": "val"}))),
        readers.lsun,
        lambda d: [name.rsplit("_", 1)[0] for name in d.classes],
        ("bedroom_train_lmdb",),
        downloadable=False,
    ),
    "MNIST": _mnist("MNIST"),
    "Omniglot": TorchvisionSet(
        # The two sets have different characters, so neither can test the other.
        {"background": ((None, {"background": True}),), "evaluation": ((None, {"background": False}),)},
        readers.omniglot,
        lambda d: d._characters,
        ("omniglot-py",),
    ),
    "OxfordIIITPet": TorchvisionSet(
        _one(_splits(train="trainval", test="test")), _files("_images", "_labels"), _own, ("oxford-iiit-pet",)
    ),
    "PCAM": TorchvisionSet(_one(_THREE), readers.pcam, _fixed("normal", "metastasis"), ("pcam",)),
    "Places365": TorchvisionSet(
        # The test images have no labels.
        {"large": _with(_PLACES, small=False), "small": _with(_PLACES, small=True)},
        _pairs("imgs"),
        lambda d: sorted(d.class_to_idx, key=d.class_to_idx.get),
        ("categories_places365.txt",),
    ),
    "QMNIST": TorchvisionSet(_one(_TRAIN_FLAG), readers.qmnist, _own, ("QMNIST",)),
    "RenderedSST2": TorchvisionSet(_one(_THREE), _pairs("_samples"), _own, ("rendered-sst2",)),
    "SEMEION": TorchvisionSet(_one(_WHOLE), _label_arrays, _fixed(*_DIGITS), ("semeion.data",)),
    "STL10": TorchvisionSet(_one(_TRAIN_TEST), _label_arrays, _own_or(*_STL10), ("stl10_binary",)),
    "SUN397": TorchvisionSet(_one(_WHOLE), _labelled_files, _own, ("SUN397",)),
    "SVHN": TorchvisionSet(_one(_TRAIN_TEST), _label_arrays, _fixed(*_DIGITS), ("train_32x32.mat",)),
    "StanfordCars": TorchvisionSet(_one(_TRAIN_TEST), _pairs("_samples"), _own, ("stanford_cars",), downloadable=False),
    "USPS": TorchvisionSet(_one(_TRAIN_FLAG), _target_arrays, _fixed(*_DIGITS), ("usps.bz2",)),
}
