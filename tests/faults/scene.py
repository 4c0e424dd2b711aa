"""A run worth losing: everything random is on. What a trial compares, and the row it prints."""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from faults.program import Before, Running, nothing, run, start
from making import COLOURS, Result, make_images, write_config

from ptft import checkpoint
from ptft.errors import CheckpointError

STEPS = 12


@dataclass(frozen=True)
class Scene:
    """A folder with images and run.yaml, and the uninterrupted run of it in `whole/`.

    Attributes:
        path: the folder; runs are named within it.
    """

    path: Path

    def start(self, out: str | Path, *more: str, before: Before = nothing) -> Running:
        """Starts the run, or goes on with it."""
        return start("pretrain", "run.yaml", "--resume", "--out", out, *more, cwd=self.path, before=before)

    def run(self, out: str | Path, *more: str, before: Before = nothing) -> Result:
        """The run to its end."""
        return run("pretrain", "run.yaml", "--resume", "--out", out, *more, cwd=self.path, before=before)

    def unequal_end(self, out: str | Path) -> list[str]:
        """Goes on with a run after a fault, to its end; what is not as in the whole one."""
        result = self.run(out, before=without_page)
        return self.differences(out) if result.code == 0 else [f"exit code {result.code}: {result.err}"]

    def summary(self, out: str | Path) -> dict[str, Any]:
        """summary.json of a finished run."""
        found: dict[str, Any] = json.loads((self.path / out / "summary.json").read_text())
        return found

    def differences(self, out: str | Path, than: str = "whole") -> list[str]:
        """What is not the same in a finished run as in the whole one: tensors by name, metrics, scores, leftovers."""
        whole, other = self.path / than, self.path / out
        found = leftovers(other)
        for name in ("best.pt", "last.pt"):
            a, b = (read_state(folder / "checkpoints" / name) for folder in (whole, other))
            found += [f"{name} {key}" for key in a.keys() | b.keys() if not _equal(a.get(key), b.get(key))]
        if (whole / "metrics.jsonl").read_bytes() != (other / "metrics.jsonl").read_bytes():
            found.append("metrics.jsonl")
        scores = [self.summary(than), self.summary(out)]
        found += [key for key in ("validation", "test", "best_step", "steps") if scores[0][key] != scores[1][key]]
        return found


def without_page() -> None:
    """Ends the run without its page: to draw that takes longer than the whole training, and no trial looks at it."""
    import ptft.run.conclusion

    ptft.run.conclusion._write_page = lambda *arguments: None


def make_scene(path: Path, **sections: Any) -> Scene:
    """The scene with its whole run done; `sections` as in `write_config`."""
    make_images(path / "photos", COLOURS, 12)
    config: dict[str, Any] = {
        "augment": {"name": "photo", "erasing": 0.3, "hue": 0.1},
        "model": {"dropout": 0.3},
        "objective": {"mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1},
        "optim": {"lr": 0.05},
        "train": {"steps": STEPS, "ema": 0.9, "evaluate_every": {"steps": 4}, "clip_norm": 1.0},
        "checkpoint": {"every": {"steps": 2}},
    }
    write_config(path / "run.yaml", **config | sections)
    scene = Scene(path)
    assert scene.run("whole", before=without_page).code == 0
    return scene


def read_state(path: Path) -> dict[str, Any]:
    """Everything in a checkpoint that a repetition must bring back: all tensors and numbers except the time."""
    read = checkpoint.read(path)
    progress = {key: value for key, value in read.metadata.progress.items() if key != "seconds"}
    return {**read.tensors, "step": read.metadata.step, "progress": progress}


def _equal(a: Any, b: Any) -> bool:
    """Bit for bit: also where -0.0 == 0.0."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    return bool(a == b)


def leftovers(folder: Path) -> list[str]:
    """Temporary files in a run folder."""
    return [str(path) for path in folder.rglob("*.tmp")]


def intact_step(path: Path) -> int | None:
    """The step of a checkpoint that can be read; None where there is none, or half a one."""
    try:
        return checkpoint.read(path).metadata.step
    except CheckpointError:
        return None


def metrics_faults(folder: Path) -> list[str]:
    """Torn and doubled lines of metrics.jsonl."""
    seen: set[tuple[int, bool]] = set()
    faults = []
    for text in (folder / "metrics.jsonl").read_text().splitlines(keepends=True):
        line = json.loads(text) if text.endswith("}\n") else {"step": -1}
        key = line["step"], "validation_top1" in line
        faults += [text] if line["step"] < 0 or key in seen else []
        seen.add(key)
    return faults


def one_sentence(result: Result, code: int, *parts: str) -> bool:
    """Whether a command ended with this exit code, nothing on stdout, and one line on stderr that has these parts."""
    lines = [line for line in result.err.splitlines() if line.startswith("ptft: ") and "log.txt can no" not in line]
    noise = any(word in result.err for word in ("Traceback", "Exception ignored", "Error:"))
    said = len(lines) == 1 and all(part in lines[0] for part in parts) and result.err.endswith(lines[0] + "\n")
    return result.code == code and result.out == "" and said and not noise


def seeded(row: str) -> random.Random:
    """The randomness of a row: the same instants and places in every run of the suite."""
    return random.Random(row)


def tell(row: str, failures: Iterable[object], total: int, note: str = "") -> None:
    """Prints the row of the table, and fails where a trial failed."""
    failed = list(failures)
    print(f"\nfaults: {row}: {total - len(failed)}/{total}{' ' + note if note else ''}")  # noqa: T201
    assert failed == []
    assert total > 0
