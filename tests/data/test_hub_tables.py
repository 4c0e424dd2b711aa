"""Parquet, Arrow and data sets through Hugging Face `datasets`, all without a network."""

import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from making import COLOURS, Ptft, make_images, write_config
from making_shards import hub, png, task_of, write_parquet, write_tar

from ptft.data.sources import Folder
from ptft.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(autouse=True)
def _own_cache_of_datasets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("hf")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True, raising=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pictures", COLOURS, 10)


def folder_task(root: Path) -> Any:
    return task_of(Folder.model_validate({"name": "folder", "root": str(root), "validation": 0, "test": 0}))


def rows(count: int) -> torch.Tensor:
    return torch.arange(count)


NAMES = ("red", "green", "blue")


@pytest.mark.parametrize("read", ["memory", "mapped", "streaming"])
@pytest.mark.parametrize("names", [None, NAMES])
def test_parquet_holds_the_images_of_the_folder(
    pictures: Path, tmp_path: Path, read: str, names: tuple[str, ...] | None
) -> None:
    """With labels as text the classes are sorted, with features they have the order of the features."""
    path = write_parquet(tmp_path / "x.parquet", pictures, 7, names)
    found = task_of(hub(path, read=read, validation=0, test=0, image_size=12))
    expected = folder_task(pictures)
    assert found.classes == (names or expected.classes)
    assert torch.equal(found.train.images.take(rows(30)), expected.train.images.take(rows(30)))
    labels = [found.classes[label] for label in found.train.labels.tolist()]
    assert labels == [expected.classes[label] for label in expected.train.labels.tolist()]
    assert found.train.names[29] in ("x.parquet[29]", "images[29]")


def test_parts_of_parquet_come_from_the_names_of_files(pictures: Path, tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        write_parquet(tmp_path / "data" / f"{name}.parquet", pictures, 100, NAMES)
    for read in ("memory", "mapped"):
        found = task_of(hub(tmp_path / "data", read=read, validation=0, image_size=12))
        assert {part: len(examples) for part, examples in found.parts.items()} == {"train": 60, "test": 30}


def test_numbers_without_names_can_be_given_names(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict(
        {"img": [{"bytes": png(n), "path": None} for n in range(6)], "label": [0, 1] * 3}
    )
    table.to_parquet(str(tmp_path / "x.parquet"))
    assert hub(tmp_path / "x.parquet").open().classes == ("0", "1")
    assert hub(tmp_path / "x.parquet", label_names=["no", "yes"]).open().classes == ("no", "yes")


def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["b", "a"])})
    cells = {"image": [{"bytes": png(n), "path": None} for n in range(20)], "label": [0, 1] * 10}
    table = datasets.Dataset.from_dict(cells, features=features)
    table.to_parquet(str(tmp_path / "x.parquet"))
    table.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(str(tmp_path / "two"))
    plain = {"validation": 0, "test": 0, "image_size": 12}
    parquet = task_of(hub(tmp_path / "x.parquet", **plain))
    assert parquet.classes == ("b", "a")
    for read in ("memory", "mapped", "streaming"):
        saved = task_of(hub(tmp_path / "one", read=read, **plain))
        assert saved.fingerprint == parquet.fingerprint
        assert torch.equal(saved.train.images.take(rows(20)), parquet.train.images.take(rows(20)))
        both = task_of(hub(tmp_path / "two", read=read, **plain))
        assert {part: len(examples) for part, examples in both.parts.items()} == {"train": 20, "test": 20}
        assert "without" not in both.origin
    datasets.DatasetDict({"train": table, "test": table, "extra": table}).save_to_disk(str(tmp_path / "three"))
    assert task_of(hub(tmp_path / "three", **plain)).origin.endswith("(without extra)")


@pytest.mark.parametrize(
    ("cells", "keys", "sentence"),
    [
        ({"label": [0, 1]}, {}, r"no image column was found; the columns are label\. Name yours in data\.image_column"),
        ({"a": [b"x", b"y"], "b": [b"x", b"y"], "label": [0, 1]}, {}, "several image columns are possible"),
        ({"image": [b"x", b"y"], "kind": [0, 1]}, {}, r"no label column was found; .*data\.label_column"),
        ({"image": [b"x", b"y"], "label": [0, 1]}, {"label_column": "kind"}, "no column kind; the columns are image"),
        ({"image": [b"x", b"y"], "label": [0, None]}, {}, r"x\.parquet\[1\]: no class in column label"),
        ({"image": [b"x", b"y"], "label": [0.5, 1.5]}, {}, r"x\.parquet\[0\]: no class in column label \(0\.5\)"),
        ({"image": [b"x", None], "label": [0, 1]}, {}, r"x\.parquet\[1\]: the image's bytes are not in the file"),
        ({"image": [{"bytes": None, "path": "/etc/passwd"}, {"bytes": b"", "path": ""}], "label": [0, 1]}, {},
         "the image's bytes are not in the file, only a path"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used_are_one_sentence(
    tmp_path: Path, cells: dict[str, list[Any]], keys: dict[str, object], sentence: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table(cells), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=sentence):
        hub(tmp_path / "x.parquet", **keys).open()


def test_a_damaged_table_is_one_sentence(pictures: Path, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", pictures, 7)
    content = path.read_bytes()
    for damaged in (b"", b"PAR1" * 10, content[:-100], content[:50] + bytes(200) + content[250:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"^x\.parquet"):
            task_of(hub(path))


README = """---
configs:
- config_name: small
  data_files:
  - {split: train, path: a.parquet}
  - {split: test, path: b.parquet}
- config_name: large
  data_files:
  - {split: train, path: "*.parquet"}
---
"""


@pytest.fixture
def repository(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set with two subsets, as it lies in the cache of huggingface_hub after it was fetched."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    kept = tmp_path / "hf" / "datasets--somebody--things"
    (kept / "refs").mkdir(parents=True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    (kept / "refs" / "main").write_text(commit)
    folder = kept / "snapshots" / commit
    write_parquet(folder / "a.parquet", pictures, 7, NAMES)
    write_parquet(folder / "b.parquet", pictures, 7, NAMES)
    (folder / "README.md").write_text(README)
    return folder


@pytest.mark.parametrize("read", ["memory", "mapped", "streaming"])
def test_a_data_set_of_the_hub_is_read_by_its_name_from_the_cache(repository: Path, read: str) -> None:
    name = Path("somebody/things")
    small = task_of(hub(name, subset="small", read=read, validation=0, image_size=12))
    assert small.origin == "somebody/things of the Hugging Face hub"
    assert small.classes == NAMES
    assert {part: len(examples) for part, examples in small.parts.items()} == {"train": 30, "test": 30}
    large = hub(name, subset="large").open()
    assert len(large.records) == 60
    assert {record.part for record in large.records} == {None}, "a single split is divided by ptft"
    with pytest.raises(DataError, match=r"its subsets are small, large\. Name one of them in data\.subset"):
        hub(name).open()
    with pytest.raises(DataError, match=r"its subsets are small, large"):
        hub(name, subset="medium").open()
    with pytest.raises(DataError, match=r"somebody/things: no such file or folder here, and not in the cache"):
        hub(name, subset="small", revision="other").open()
    assert len(hub(repository, subset="small").open().records) == 60


def test_a_repository_of_image_folders_is_read(pictures: Path, tmp_path: Path) -> None:
    found = task_of(hub(pictures, subset="default", validation=0, test=0))
    assert found.classes == ("blue", "green", "red")
    assert torch.equal(found.train.images.take(rows(30)), folder_task(pictures).train.images.take(rows(30)))


def test_a_repository_of_tar_shards_never_meets_the_reader_of_datasets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table of decoders is set on a trap; the trap does spring where that reader is used."""
    from datasets.packaged_modules.webdataset.webdataset import WebDataset

    sprung: list[bytes] = []
    monkeypatch.setitem(WebDataset.DECODERS, "pth", lambda content: sprung.append(content) or 1)
    members = [(f"{n}.{ending}", content) for n in range(4) for ending, content in
               (("png", png(n)), ("cls", b"01"[n % 2:n % 2 + 1]), ("pth", b"payload"))]  # fmt: skip
    write_tar(tmp_path / "tars" / "train.tar", members)
    found = task_of(hub(tmp_path / "tars", subset="default", validation=0, test=0))
    assert len(found.train) == 4
    assert not sprung
    datasets.load_dataset("webdataset", data_files=str(tmp_path / "tars" / "train.tar"))
    assert sprung


def test_files_that_would_be_decoded_by_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.csv").write_text("image,label\nx.png,1\n")
    with pytest.raises(DataError, match="made of csv files; Parquet, tar, Arrow files and image folders are read"):
        hub(tmp_path / "texts", subset="default").open()


@pytest.mark.parametrize("download", [False, True])
def test_a_name_that_cannot_be_had_is_one_line(
    ptft: Ptft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: bool
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    config = write_config(tmp_path / "run.yaml")
    section = {"name": "hub", "path": "nobody/nothing", "download": download}
    ended = ptft(
        "pretrain", config, "--out", "a", "--set", f"data={section}".replace("True", "true").replace("False", "false")
    )
    assert ended.code == 3
    assert ended.out == ""
    last = ended.err.strip().splitlines()[-1]
    assert last.startswith("ptft: data.path: nobody/nothing: no such file or folder here, and not ")
    assert ("to be had from the hub (" in last) is download
    assert ("in the cache of the hub. Set data.download: true" in last) is not download
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("package", "path", "keys"),
    [("pyarrow", "x.parquet", {}), ("datasets", "x.parquet", {"read": "mapped"}), ("datasets", "nobody/nothing", {})],
)
def test_a_missing_extra_is_one_line(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, path: str, keys: dict[str, object]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_parquet(Path("x.parquet"), pictures, 7)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"needs the package {package}\. pip install 'ptft\[hub\]'"):
        hub(Path(path), **keys).open()


def test_tar_shards_need_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("datasets", "pyarrow"):
        monkeypatch.setitem(sys.modules, package, None)
    members = [
        (f"{n}.{ending}", content)
        for n in range(4)
        for ending, content in (("png", png(n)), ("cls", b"ab"[n % 2 : n % 2 + 1]))
    ]
    assert len(hub(write_tar(tmp_path / "x.tar", members)).open().records) == 4
