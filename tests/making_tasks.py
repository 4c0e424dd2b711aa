"""Tables of small real images: what colours each shows, and how much of them."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from making import QUICK
from PIL import Image

PARTS = ("train", "train", "train", "val", "test", "test")


class Shapes:
    """Images of 12x12 pixels: dark, with a red, green or blue stripe or several, of a brightness of its own.

    Attributes:
        folder: of the images and tables.
        rows: path, part, classes, brightness of each.
    """

    def __init__(self, folder: Path, count: int = 72) -> None:
        self.folder = folder
        (folder / "images").mkdir(parents=True)
        self.rows = list(self._draw(count))
        self.write("labels.csv", ["path", "label", "split"], [[p, ";".join(c), part] for p, part, c, _ in self.rows])
        colours = ("blue", "green", "red")
        self.write(
            "columns.csv",
            ["path", *colours, "split"],
            [[p, *(int(name in c) for name in colours), part] for p, part, c, _ in self.rows],
        )
        self.write(
            "numbers.csv",
            ["path", "light", "half", "split"],
            [[p, 1000 + 50 * light, -light / 2, part] for p, part, _, light in self.rows],
        )

    def _draw(self, count: int) -> Iterator[tuple[str, str, list[str], float]]:
        rng = np.random.default_rng(0)
        for index in range(count):
            light, shown = float(rng.uniform(0.2, 1)), rng.random(3) < (0.5, 0.3, 0.6)
            pixels = rng.normal(25, 15, (12, 12, 3))
            for channel in np.flatnonzero(shown):
                pixels[:, 4 * channel : 4 * channel + 4, channel] += 200 * light
            pixels[:3] += 150 * light
            path = f"images/{index:03d}.png"
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(self.folder / path)
            names = [name for name, is_there in zip(("red", "green", "blue"), shown, strict=True) if is_there]
            yield path, PARTS[index % len(PARTS)], names, light

    def write(self, name: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
        with (self.folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return self.folder / name

    def files_to_test(self) -> list[Path]:
        return [self.folder / path for path, part, _, _ in self.rows if part == "test"]


MULTI: dict[str, Any] = {"data": {"name": "csv", "path": "shapes/labels.csv"}, "task": {"name": "multi-label"}}
NUMBERS: dict[str, Any] = {
    "data": {"name": "csv", "path": "shapes/numbers.csv"},
    "task": {"name": "regression", "targets": ["light", "half"]},
}


def write(path: Path, sections: dict[str, Any], **more: Any) -> Path:
    """A quick config of a tiny model."""
    config: dict[str, Any] = {
        "model": {"name": "small-cnn", "width": 4},
        "augment": {"name": "none"},
        "optim": {"name": "sgd", "lr": 0.05},
        "train": {"steps": 30} | QUICK,
        "device": "cpu",
    }
    path.write_text(json.dumps(config | sections | more))
    return path


def page_text(path: Path) -> str:
    """A page without its tags, spaces made one."""
    body = re.sub(r"<(style|script).*?</\1>", "", path.read_text("utf-8"), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))
