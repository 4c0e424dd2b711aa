"""Each kind of source, from its files to a checkpoint, on the command line."""

import struct
from pathlib import Path

import numpy as np
from making import QUICK, Ptft, write_config

from ptft import checkpoint


def test_a_csv_manifest_with_its_own_split(ptft: Ptft, tmp_path: Path, photos: Path) -> None:
    rows = ["path,label,split"]
    for index, path in enumerate(sorted(photos.rglob("*.*"))):
        part = ("train", "train", "train", "val", "test")[index % 5]
        rows.append(f"{path.relative_to(tmp_path)},{'012' if path.parent.name == 'red' else path.parent.name},{part}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    config = write_config(tmp_path / "run.yaml", data={"name": "csv", "path": "table.csv"}, train={"steps": 3})
    config.write_text(config.read_text().replace('"root": "photos", ', "").replace(', "root": "photos"', ""))
    result = ptft("pretrain", config)
    assert result.code == 0, result.err
    assert "36 train, 12 validation, 12 test" in result.err
    assert checkpoint.read(result.path).metadata.classes == ("012", "blue", "green")


def write_idx(root: Path, prefix: str, count: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.uint8) % 10
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    (root / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, count, 28, 28) + images.tobytes())
    (root / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + labels.tobytes())


def test_the_four_idx_files_of_fashion_mnist_under_a_root(ptft: Ptft, tmp_path: Path) -> None:
    write_idx(tmp_path, "train", 60)
    write_idx(tmp_path, "t10k", 20)
    config = tmp_path / "run.yaml"
    config.write_text(
        "data: {name: torchvision, dataset: FashionMNIST, root: .}\ndevice: cpu\n"
        f"train: {{steps: 3, batch_size: {QUICK['batch_size']}, precision: fp32, memory_format: contiguous}}\n"
    )
    result = ptft("pretrain", config)
    assert result.code == 0, result.err
    assert "20 test; 10 classes; 28x28 pixels, grey" in result.err
    assert checkpoint.read(result.path).metadata.classes[0] == "T-shirt/top"


def test_a_torchvision_set_without_its_files_names_the_folder_and_how_to_get_it(ptft: Ptft, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("data: {name: torchvision, dataset: CIFAR10, root: nowhere}\n")
    result = ptft("pretrain", config)
    assert (result.code, result.out) == (3, "")
    assert "nowhere" in result.err
    assert "download: true" in result.err
