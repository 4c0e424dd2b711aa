"""What tests make and call: small real images, quick configs, the command line."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (210, 50, 40)}


@dataclass(frozen=True)
class Result:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def path(self) -> Path:
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1, self.out
        return Path(self.out.strip())


Ptft = Callable[..., Result]


def call(*arguments: str | Path) -> int:
    """Calls `ptft ARGUMENTS` in this process and folder; its exit code."""
    from ptft.cli import main
    from ptft.stop import SIGNALS

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["ptft", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                main()
    finally:  # a process that ends leaves signals ignored, which those we start later would inherit
        for number, handler in handlers.items():
            signal.signal(number, handler)
    code = ended.value.code
    return code if isinstance(code, int) else 0


def run_process(*arguments: str | Path, cwd: Path, timeout: float = 120) -> Result:
    """Calls `ptft ARGUMENTS` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "ptft", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=timeout
    )
    return Result(done.returncode, done.stdout, done.stderr)


def make_images(folder: Path, classes: dict[str, tuple[int, int, int]], count: int, size: int = 12) -> Path:
    """A folder for each class with noisy images of its colour, PNG and JPEG by turns."""
    rng = np.random.default_rng(0)
    for name, colour in classes.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            noise = rng.normal(0, 25, (size, size, 3))
            pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03d}.{'png' if index % 2 else 'jpg'}")
    return folder


QUICK = {"batch_size": 8, "precision": "fp32", "memory_format": "contiguous"}


def write_config(path: Path, **sections: Any) -> Path:
    """A quick pretraining of a tiny model on `photos/`; sections given here are merged over it."""
    config: dict[str, Any] = {
        "data": {"name": "folder", "root": "photos"},
        "model": {"name": "small-cnn", "width": 4},
        "train": {"steps": 12} | QUICK,
        "device": "cpu",
    }
    for key, value in sections.items():
        old = config.get(key)
        config[key] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    path.write_text(json.dumps(config))
    return path
