"""The registry of sources, their common keys, the embedded set and the IDX reader."""

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from ptft.data.sources import Csv, Data, DataConfig, EmbeddedFashionMnist, Folder, Hub, Torchvision
from ptft.data.sources.idx import read_idx, read_pair
from ptft.errors import DataError

REGISTRY: TypeAdapter[DataConfig] = TypeAdapter(Data)
COMPONENTS = (Folder, Csv, Torchvision, Hub, EmbeddedFashionMnist)


class TestRegistry:
    @pytest.mark.parametrize(
        ("given", "kind"),
        [
            ({"name": "folder", "root": "photos"}, Folder),
            ({"name": "csv", "path": "t.csv"}, Csv),
            ({"name": "torchvision", "dataset": "CIFAR10", "root": "data"}, Torchvision),
            ({"name": "hub", "path": "shards"}, Hub),
            ({"name": "fashion-mnist-10k", "classes": ["Bag", "Coat"]}, EmbeddedFashionMnist),
        ],
    )
    def test_name_picks_the_source(self, given: dict[str, Any], kind: type[DataConfig]) -> None:
        assert isinstance(REGISTRY.validate_python(given), kind)

    @pytest.mark.parametrize("component", COMPONENTS)
    def test_every_field_is_documented(self, component: type[DataConfig]) -> None:
        assert all(field.description for field in component.model_fields.values())
        assert len(next(iter(component.summaries().values()))) < 110

    def test_common_keys_have_the_promised_defaults(self) -> None:
        common = EmbeddedFashionMnist().model_dump(exclude={"name"})
        assert common == {
            "classes": None,
            "labels_per_class": None,
            "validation_per_class": None,
            "validation": 0.1,
            "test": 0.2,
            "split_seed": 0,
            "image_size": None,
            "store_size": None,
            "mean": None,
            "std": None,
            "num_views": 1,
            "on_bad_image": "error",
            "max_bad_images": 100,
            "max_pixels": 100_000_000,
            "leak_check": True,
        }

    @pytest.mark.parametrize(
        ("key", "value", "sentence"),
        [
            ("classes", ["a"], "a classifier needs at least 2 classes"),
            ("classes", ["b", "a", "b"], "named more than once: b"),
            ("labels_per_class", 0, "greater than or equal to 1"),
            ("validation", 1.0, "less than 1"),
            ("test", -0.1, "greater than or equal to 0"),
            ("image_size", 7, "greater than or equal to 8"),
            ("image_size", 2049, "less than or equal to 2048"),
            ("on_bad_image", "ignore", "'error' or 'skip'"),
            ("max_bad_images", -1, "greater than or equal to 0"),
            ("root", "", "at least 1 character"),
            ("root", "a\0b", "a path cannot contain a NUL character"),
        ],
    )
    def test_values_out_of_range_are_refused(self, key: str, value: object, sentence: str) -> None:
        with pytest.raises(ValidationError, match=re.escape(sentence)):
            Folder.model_validate({"name": "folder", "root": "d", key: value})

    @pytest.mark.parametrize(
        ("key", "value", "kept"),
        [("validation", 0, 0.0), ("image_size", 2048, 2048), ("classes", ["b", "a"], ("b", "a"))],
    )
    def test_values_at_the_edge_are_accepted(self, key: str, value: object, kept: object) -> None:
        assert getattr(Folder.model_validate({"name": "folder", "root": "d", key: value}), key) == kept


class TestEmbedded:
    def test_holds_ten_thousand_images_in_ten_balanced_classes(self) -> None:
        source = EmbeddedFashionMnist().open()
        assert len(source.records) == 10_000
        assert source.records[17].name == "t10k[17]"
        assert {record.part for record in source.records} == {None}
        labels = [record.label for record in source.records]
        assert {name: labels.count(name) for name in source.classes} == dict.fromkeys(source.classes, 1000)
        assert all(isinstance(r.image, np.ndarray) and r.image.shape == (28, 28) for r in source.records)

    def test_first_images_are_the_published_ones(self) -> None:
        labels = [record.label for record in EmbeddedFashionMnist().open().records[:5]]
        assert labels == ["Ankle boot", "Pullover", "Trouser", "Trouser", "Shirt"]


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
ZIPPED = gzip.compress(idx(IMAGES), mtime=0)  # the same bytes in every process: test names are made of them
DAMAGED = {
    "empty": (
        b"",
        r"not an IDX file of uint8 in 3 dimensions: it starts with nothing, expected 00 00 08 03\.$",
    ),
    "labels": (idx(IMAGES[0, 0]), r"it starts with 00 00 08 01, expected 00 00 08 03\.$"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(20), r"it starts with 89 50 4e 47, expected"),
    "cut header": (idx(IMAGES)[:10], r"not an IDX file"),
    "short": (idx(IMAGES)[:-1], r"its header says 24 bytes but it holds only 23\. Fetch it again\.$"),
    "long": (idx(IMAGES) + b"x", r"its header says 24 bytes but it holds more\."),
    "huge": (bytes([0, 0, 8, 3]) + b"\xff" * 12, r"its header claims [\d,]+ bytes; more than ptft reads"),
    "cut gzip": (ZIPPED[:-12], r"damaged gzip file: Compressed file ended .*\. Fetch it again\.$"),
    "flipped gzip": (ZIPPED[:-5] + b"\0" + ZIPPED[-4:], r"damaged gzip file: CRC check failed"),
    "fake gzip": (b"\x1f\x8bxxxxxxxxxxxxxxxx", r"damaged gzip file: "),
}


class TestIdx:
    @pytest.mark.parametrize("content", [idx(IMAGES), ZIPPED])
    def test_plain_and_gzip_whatever_the_name(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "images").write_bytes(content)
        assert np.array_equal(read_idx(tmp_path / "images", ndim=3), IMAGES)

    @pytest.mark.parametrize("damage", DAMAGED)
    def test_damage_is_one_sentence_with_the_file(self, tmp_path: Path, damage: str) -> None:
        content, sentence = DAMAGED[damage]
        (tmp_path / "images").write_bytes(content)
        with pytest.raises(DataError, match=rf"^{re.escape(str(tmp_path))}/images: .*{sentence}"):
            read_idx(tmp_path / "images", ndim=3)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"images: cannot be read: No such file or directory\.$"):
            read_idx(tmp_path / "images", ndim=3)

    def test_different_numbers_of_images_and_labels(self, tmp_path: Path) -> None:
        (tmp_path / "images").write_bytes(idx(IMAGES))
        (tmp_path / "labels").write_bytes(idx(np.zeros(3, np.uint8)))
        with pytest.raises(DataError, match=r"images holds 2 images but .*labels 3 labels\. They belong to different"):
            read_pair(tmp_path / "images", tmp_path / "labels")
