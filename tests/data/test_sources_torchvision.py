"""The table of sets against the installed torchvision, and small sets made here in the layouts it reads."""

import gzip
import hashlib
import pickle
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import scipy.io
from PIL import Image
from pydantic import ValidationError
from torchvision import datasets

from ptft.data.records import Record
from ptft.data.sources.mnist import MNIST_CLASSES, MNIST_FILES
from ptft.data.sources.torchvision import Dataset, Torchvision
from ptft.data.sources.torchvision_readers import synset_names
from ptft.data.sources.torchvision_sets import SETS
from ptft.errors import DataError

NOT_CLASSIFICATION = {
    # folders (the source `folder`), helpers, base classes
    *("ImageFolder", "DatasetFolder", "VisionDataset", "LSUNClass", "wrap_dataset_for_transforms_v2"),
    # several labels per image, or pairs of images
    *("CelebA", "LFWPairs", "PhotoTour"),
    # captions, detection, segmentation
    *("CocoCaptions", "CocoDetection", "Flickr8k", "Flickr30k", "SBU", "SBDataset", "Cityscapes", "Kitti"),
    *("VOCDetection", "VOCSegmentation", "WIDERFace"),
    # video
    *("HMDB51", "Kinetics", "MovingMNIST", "UCF101"),
    # optical flow and stereo
    *("KittiFlow", "Sintel", "FlyingChairs", "FlyingThings3D", "HD1K", "Kitti2012Stereo", "Kitti2015Stereo"),
    *(
        "CarlaStereo",
        "Middlebury2014Stereo",
        "CREStereo",
        "FallingThingsStereo",
        "SceneFlowStereo",
        "SintelStereo",
    ),
    *("InStereo2k", "ETH3DStereo"),
}
NAMES: tuple[str, ...] = get_args(Dataset)
STORED = [name for name in NAMES if SETS[name].files]


def source(name: str, root: Path, **keys: Any) -> Torchvision:
    return Torchvision.model_validate({"name": "torchvision", "dataset": name, "root": str(root), **keys})


def summary(records: Any) -> list[tuple[str, str | None, str | None]]:
    return [(record.name, record.label, record.part) for record in records]


def shape(record: Record) -> tuple[int, ...]:
    assert isinstance(record.image, np.ndarray)
    assert record.image.dtype == np.uint8
    return record.image.shape


class TestTable:
    def test_every_set_of_torchvision_is_ours_or_no_classification_set(self) -> None:
        assert set(datasets.__all__) == set(NAMES) | NOT_CLASSIFICATION
        assert not set(NAMES) & NOT_CLASSIFICATION

    def test_names_of_the_config_are_the_keys_of_the_table(self) -> None:
        assert sorted(NAMES) == sorted(SETS)

    @pytest.mark.parametrize("name", MNIST_CLASSES)
    def test_class_names_are_torchvisions(self, name: str) -> None:
        assert list(MNIST_CLASSES[name]) == getattr(datasets, name).classes

    def test_config_is_checked_without_importing_torch(self) -> None:
        code = "import sys, ptft.data.sources as s; s.Torchvision(dataset='DTD', root='.'); "
        code += "print('torch' in sys.modules)"
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert output == "False\n"


class TestConfig:
    @pytest.mark.parametrize(
        ("keys", "sentence"),
        [
            (
                {"dataset": "CIFAR10"},
                "root is missing. Name the folder that holds the data set, for example root: data",
            ),
            (
                {"dataset": "ImageNet", "root": "d", "download": True},
                "torchvision cannot download ImageNet. Remove download and put its files under root",
            ),
            (
                {"dataset": "Imagenette", "root": "d", "variant": "320"},
                "Imagenette has no variant '320'. Write one of: full, 320px, 160px",
            ),
            ({"dataset": "MNIST", "root": "d", "variant": "a"}, "MNIST has no variant 'a'. Remove it"),
        ],
    )
    def test_faults_are_sentences(self, keys: dict[str, Any], sentence: str) -> None:
        with pytest.raises(ValidationError, match=re.escape(sentence)):
            Torchvision.model_validate({"name": "torchvision", **keys})

    def test_numbers_are_variants_too(self) -> None:
        assert Torchvision(dataset="DTD", root="d", variant=3).variant == 3


class TestAbsent:
    @pytest.mark.parametrize("name", STORED)
    def test_empty_root_is_one_sentence_that_says_where_and_how(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DataError) as caught:
            source(name, tmp_path).open()
        text = str(caught.value)
        assert text.startswith(f"{name} is not in {tmp_path}. ")
        assert str(tmp_path / SETS[name].files[0]) in text
        assert ("data.download: true" in text) == SETS[name].downloadable
        assert "\n" not in text
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", STORED)
    def test_incomplete_files_are_one_sentence(self, tmp_path: Path, name: str) -> None:
        first = tmp_path / SETS[name].files[0]
        if first.suffix in (".txt", ".mat", ".data", ".bz2", ".bin", ".gz"):
            first.write_bytes(b"")
        else:
            first.mkdir()
        with pytest.raises(DataError) as caught:
            source(name, tmp_path).open()
        text = str(caught.value)
        assert (
            text.startswith((f"{name} in {tmp_path} is incomplete or damaged: ", f"{name} is not in "))
            or "pip install" in text
        )
        assert "download=True" not in text
        assert "\n" not in text

    @pytest.mark.parametrize("name", ["CIFAR10", "FashionMNIST", "DTD", "SVHN", "Places365"])
    def test_failed_download_is_one_sentence(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.setattr(urllib.request, "_opener", None)  # one made before has the proxies of then
            for variable in ("http_proxy", "https_proxy"):
                monkeypatch.setenv(variable, f"http://127.0.0.1:{unused.getsockname()[1]}")
            with pytest.raises(DataError) as caught:
                source(name, tmp_path, download=True).open()
        text = str(caught.value)
        assert text.startswith(f"{name} could not be downloaded into {tmp_path}: ")
        assert "Connection refused" in text
        assert text.endswith("Check the network, or fetch the files elsewhere and put them there.")
        assert "\n" not in text
        assert capsys.readouterr().out == ""
        assert socket.getdefaulttimeout() is None


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def put_mnist(folder: Path, *, zipped: bool = False, num_train: int = 4, num_test: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", num_train), ("t10k", num_test)):
        images = np.arange(count * 6, dtype=np.uint8).reshape(count, 2, 3)
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8))):
            content = gzip.compress(idx(array)) if zipped else idx(array)
            (folder / f"{prefix}-{name}-ubyte{'.gz' if zipped else ''}").write_bytes(content)


class TestMnistFiles:
    @pytest.mark.parametrize("folder", ["", "raw", "FashionMNIST/raw"])
    @pytest.mark.parametrize("zipped", [False, True])
    def test_four_files_are_found_where_users_put_them(self, tmp_path: Path, folder: str, zipped: bool) -> None:
        put_mnist(tmp_path / folder, zipped=zipped)
        found = source("FashionMNIST", tmp_path).open()
        assert found.classes == ("T-shirt/top", "Trouser", "Pullover", "Dress")
        assert summary(found.records)[3:5] == [
            ("train[3]", "Dress", "train"),
            ("test[0]", "T-shirt/top", "test"),
        ]
        assert [shape(record) for record in found.records] == [(2, 3)] * 6
        assert isinstance(found.records[1].image, np.ndarray)
        assert found.records[1].image.tolist() == [[6, 7, 8], [9, 10, 11]]

    def test_files_spelled_as_on_kaggle_are_found(self, tmp_path: Path) -> None:
        put_mnist(tmp_path)
        for path in list(tmp_path.iterdir()):
            path.rename(tmp_path / path.name.replace("-idx", ".idx"))
        assert len(source("MNIST", tmp_path).open().records) == 6

    def test_agrees_with_torchvision(self, tmp_path: Path) -> None:
        put_mnist(tmp_path / "MNIST/raw")
        theirs = datasets.MNIST(str(tmp_path), train=False)
        ours = [record for record in source("MNIST", tmp_path).open().records if record.part == "test"]
        assert [record.label for record in ours] == [theirs.classes[label] for _, label in theirs]
        for record, (image, _) in zip(ours, theirs, strict=True):
            assert np.array_equal(np.asarray(record.image), np.asarray(image))

    def test_some_of_the_files_are_not_enough(self, tmp_path: Path) -> None:
        put_mnist(tmp_path)
        (tmp_path / MNIST_FILES[2]).unlink()
        with pytest.raises(DataError, match=r"^MNIST in .* is incomplete: there is no t10k-images-idx3-ubyte\.$"):
            source("MNIST", tmp_path).open()

    def test_label_without_a_class_is_refused(self, tmp_path: Path) -> None:
        put_mnist(tmp_path, num_train=11)
        with pytest.raises(DataError, match=r"train-labels-idx1-ubyte: label 10, but there are 10 classes\.$"):
            source("MNIST", tmp_path).open()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


class TestLocalSets:
    def test_cifar10(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        pixels = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
        lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
        for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
            (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [3, 1]}))
            lists["test_list" if name == "test_batch" else "train_list"].append([name, md5(folder / name)])
        meta = folder / "batches.meta"
        meta.write_bytes(pickle.dumps({"label_names": [f"class {n}" for n in range(10)]}))
        for name, value in {**lists, "meta": {**datasets.CIFAR10.meta, "md5": md5(meta)}}.items():
            monkeypatch.setattr(datasets.CIFAR10, name, value)
        found = source("CIFAR10", tmp_path).open()
        assert found.classes == ("class 1", "class 3")
        assert len(found.records) == 12
        assert summary(found.records)[9:11] == [
            ("train[9]", "class 1", "train"),
            ("test[0]", "class 3", "test"),
        ]
        assert np.array_equal(np.asarray(found.records[0].image), pixels[0].reshape(3, 32, 32).transpose(1, 2, 0))

    def test_svhn_channels_come_last(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
        split_list = {}
        for split in ("train", "test"):
            path = tmp_path / f"{split}_32x32.mat"
            scipy.io.savemat(path, {"X": pixels, "y": np.array([[10], [4]])})
            split_list[split] = ["", path.name, md5(path)]
        monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
        found = source("SVHN", tmp_path).open()
        assert found.classes == ("0", "4")
        assert [record.label for record in found.records] == ["0", "4", "0", "4"]
        assert np.array_equal(np.asarray(found.records[1].image), pixels[..., 1])

    def test_dtd_partitions(self, tmp_path: Path) -> None:
        labels, images = tmp_path / "dtd/dtd/labels", tmp_path / "dtd/dtd/images"
        labels.mkdir(parents=True)
        for split, number in (("train", 1), ("val", 2), ("test", 3)):
            (labels / f"{split}2.txt").write_text(f"dotted/d{number}.jpg\nbanded/b{number}.jpg\n")
        found = source("DTD", tmp_path, variant=2).open()
        assert found.classes == ("banded", "dotted")
        assert summary(found.records) == [
            (f"dtd/dtd/images/{label}/{label[0]}{number}.jpg", label, part)
            for number, part in ((1, "train"), (2, "validation"), (3, "test"))
            for label in ("banded", "dotted")
        ]
        assert found.records[0].image == images / "banded/b1.jpg"

    def test_eurosat_has_no_parts(self, tmp_path: Path) -> None:
        for label in ("River", "Forest"):
            folder = tmp_path / "eurosat/2750" / label
            folder.mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(folder / "1.jpg")
        found = source("EuroSAT", tmp_path).open()
        assert found.classes == ("Forest", "River")
        assert {record.part for record in found.records} == {None}
        assert found.origin == f"torchvision EuroSAT in {tmp_path}"

    def test_caltech256_paths_are_torchvisions(self, tmp_path: Path) -> None:
        for number, label in ((1, "001.ak47"), (2, "002.flag")):
            folder = tmp_path / "caltech256/256_ObjectCategories" / label
            folder.mkdir(parents=True)
            Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"00{number}_0001.jpg")
        found = source("Caltech256", tmp_path).open()
        assert [record.label for record in found.records] == ["001.ak47", "002.flag"]
        assert all(isinstance(record.image, Path) and record.image.is_file() for record in found.records)

    def test_inaturalist_version_by_year(self, tmp_path: Path) -> None:
        for path in ("Birds/Robin/2.jpg", "Birds/Robin/1.jpg", "Plants/Rose/3.jpg"):
            (tmp_path / "2017" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "2017" / path).write_bytes(b"")
        found = source("INaturalist", tmp_path, variant=2017).open()
        assert summary(found.records) == [
            ("2017/Birds/Robin/1.jpg", "Birds/Robin", None),
            ("2017/Birds/Robin/2.jpg", "Birds/Robin", None),
            ("2017/Plants/Rose/3.jpg", "Plants/Rose", None),
        ]

    def test_imagenette_uses_the_first_synonym(self, tmp_path: Path) -> None:
        for part in ("train", "val"):
            for wnid in ("n01440764", "n03888257"):
                folder = tmp_path / "imagenette2-160" / part / wnid
                folder.mkdir(parents=True)
                (folder / "1.jpeg").write_bytes(b"")
        found = source("Imagenette", tmp_path, variant="160px").open()
        assert found.classes == ("tench", "parachute")
        assert [record.part for record in found.records] == ["train", "train", "validation", "validation"]

    def test_part_without_labels_is_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "fer2013"
        folder.mkdir()
        pixels = " ".join(["7"] * 48 * 48)
        (folder / "train.csv").write_text(f"emotion,pixels\n3,{pixels}\n6,{pixels}\n")
        (folder / "test.csv").write_text(f"pixels\n{pixels}\n")
        resources = {**datasets.FER2013._RESOURCES}
        resources.update({split: (f"{split}.csv", md5(folder / f"{split}.csv")) for split in ("train", "test")})
        monkeypatch.setattr(datasets.FER2013, "_RESOURCES", resources)
        found = source("FER2013", tmp_path).open()
        assert summary(found.records) == [("train[0]", "happy", "train"), ("train[1]", "neutral", "train")]
        assert shape(found.records[0]) == (48, 48)

    def test_fake_data_needs_no_root_and_is_the_same_each_time(self) -> None:
        first, second = (Torchvision(dataset="FakeData").open() for _ in range(2))
        assert len(first.records) == 1000
        assert first.classes == tuple("0123456789")
        assert [shape(record) for record in first.records[:3]] == [(32, 32, 3)] * 3
        assert np.array_equal(np.asarray(first.records[7].image), np.asarray(second.records[7].image))

    def test_names_are_unique_in_a_source(self, tmp_path: Path) -> None:
        put_mnist(tmp_path)
        for found in (source("MNIST", tmp_path).open(), Torchvision(dataset="FakeData").open()):
            assert len({record.name for record in found.records}) == len(found.records)


def test_classes_that_share_a_name_are_told_apart_by_their_wordnet_id() -> None:
    cranes = SimpleNamespace(
        classes=[("crane",), ("tench", "Tinca tinca"), ("crane",)],
        wnids=["n02012849", "n01440764", "n03126707"],
    )
    assert synset_names(cranes) == ["crane (n02012849)", "tench", "crane (n03126707)"]
