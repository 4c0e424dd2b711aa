"""Verdicts of `ptft compare` where the truth is known: same weights, shuffled labels, a related source.

    python scripts/bench/compare.py OUT [--runs 20] [--cifar10 DIR]

Each row is a call of the command line. OUT keeps the comparisons: started again, the script does only what is missing.
With --cifar10, a folder with `train` and `test` and a folder of images for each class, one more related source.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from ptft.cli import app
from ptft.data.sources import EmbeddedFashionMnist

CLOTHES = ["T-shirt/top", "Trouser", "Dress", "Coat", "Sandal", "Sneaker", "Bag"]
TARGET = ["Pullover", "Shirt", "Ankle boot"]
# Small, so that twenty comparisons take minutes: half the resolution, a third of the width.
SIZE, MODEL = 14, {"name": "small-cnn", "width": 10}
AUGMENT = {"name": "standard", "shift": 1, "padding": "zeros"}
QUICK = {"precision": "fp32", "memory_format": "channels_last"}
SHARED: dict[str, Any] = {"device": "cpu", "augment": AUGMENT, "model": MODEL}


def ptft(*arguments: str | Path) -> str:
    """Stdout of a ptft command."""
    done = subprocess.run([sys.executable, "-m", "ptft", *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


def write(path: Path, config: dict[str, Any]) -> Path:
    """A config as JSON, which is YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
    return path


def clothes(**keys: Any) -> dict[str, Any]:
    return {"name": "fashion-mnist-10k", "image_size": SIZE} | keys


def pretrained(out: Path, name: str, data: dict[str, Any], seed: int = 0, **train: Any) -> Path:
    """A checkpoint."""
    optim = {"lr": train.pop("lr", 0.1)}
    config = SHARED | {"seed": seed, "data": data, "optim": optim, "train": QUICK | {"batch_size": 64} | train}
    path = write(out / "configs" / f"{name}.yaml", config)
    return Path(ptft("pretrain", path, "--out", out / "sources" / name, "--resume"))


def random_weights(out: Path, seed: int) -> Path:
    """Random weights, as one step at a learning rate of 1e-9 leaves them. In this process: a hundred are made."""
    data = clothes(classes=CLOTHES, labels_per_class=20)
    config = SHARED | {
        "seed": seed,
        "data": data,
        "optim": {"lr": 1e-9},
        "train": QUICK | {"batch_size": 64, "steps": 1},
    }
    path = write(out / "configs" / f"random-{seed}.yaml", config)
    folder = out / "sources" / f"random-{seed}"
    done = CliRunner().invoke(app, ["pretrain", str(path), "--out", str(folder), "--resume"], catch_exceptions=False)
    if done.exit_code:
        sys.exit(done.stderr)
    return Path(done.stdout.strip())


def shuffled_folder(out: Path) -> dict[str, Any]:
    """The source's images under labels drawn at random, as a csv file."""
    source = EmbeddedFashionMnist(name="fashion-mnist-10k", classes=tuple(CLOTHES)).open()
    records = [record for record in source.records if record.label in CLOTHES]
    labels = np.random.default_rng(0).permutation([str(record.label) for record in records])
    folder = out / "shuffled-images"
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["path,label"]
    for index, (record, label) in enumerate(zip(records, labels, strict=True)):
        if not (folder / f"{index}.png").exists():
            Image.fromarray(np.asarray(record.image)).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{label}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return {"name": "csv", "path": str(folder / "table.csv"), "image_size": SIZE}


def compared(
    out: Path, name: str, *sources: Path, seed: int = 0, train: dict[str, Any] | None = None, **section: Any
) -> dict[str, Any]:
    """The result of a comparison on the target classes."""
    given = [word for source in sources for word in ("--from", source)]
    section = {"labels_per_class": [5, 20], "seeds": 10, "tuning_seeds": 2, "probe": False} | section
    config = SHARED | {"seed": seed, "data": clothes(classes=TARGET), "compare": section}
    del config["model"]
    config["train"] = QUICK | {"steps": 60, "batch_size": 15} | (train or {})
    path = write(out / "configs" / f"{name}.yaml", config)
    return json.loads(ptft("compare", path, *given, "--out", out / name, "--resume", "--json"))  # type: ignore[no-any-return]


def row(name: str, truth: str, found: dict[str, Any]) -> str:
    return f"| {name} | {truth} | {found['verdict']} | {found['sentence']} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--cifar10", type=Path)
    options = parser.parse_args()
    out: Path = options.out
    rows = ["| source | truth | verdict | in words |", "|---|---|---|---|"]
    related = pretrained(out, "related", clothes(classes=CLOTHES), epochs=6)
    rows.append(row("other clothes", "helped", compared(out, "related", related)))
    shuffled = pretrained(out, "shuffled", shuffled_folder(out), epochs=6)
    rows.append(row("other clothes, labels shuffled", "not helped", compared(out, "shuffled", shuffled)))
    if options.cifar10:
        data = {"name": "folder", "root": str(options.cifar10), "labels_per_class": 1000, "image_size": SIZE}
        cifar = pretrained(out, "cifar10", data, epochs=5)
        rows.append(row("CIFAR-10, 10,000 images", "helped", compared(out, "cifar10", cifar)))
    verdicts: Counter[str] = Counter()
    for run in range(options.runs):
        # A source for each seed, drawn as the baseline draws its own: only then are both arms the same in truth. With a
        # single source, its weights' own luck would be a real difference.
        random = [random_weights(out, seed=1000 + 5 * run + draw) for draw in range(5)]
        found = compared(out, f"same-{run}", *random, seed=100 * run, train={"steps": 40}, seeds=5)
        verdicts[found["verdict"]] += 1
    told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    rows.append(f"| random weights, {options.runs} times | within noise | {told} | |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
