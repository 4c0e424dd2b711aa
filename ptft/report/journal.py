"""The numbers of a run as they come: metrics.jsonl, the trackers, the console."""

import json
from contextlib import suppress
from typing import Any

from ptft.report.console import Bar
from ptft.run_folder import RunFolder
from ptft.storage import storage_errors, write_text_durably
from ptft.tracking.trackers import Trackers
from ptft.train.metrics import TaskScores
from ptft.train.state import Progress


class Journal:
    """Writes each number once, whatever happened to earlier sessions of the run.

    Args:
        folder: of the run; lines of metrics.jsonl from after `progress` are dropped, they will come again.
        progress: of the state that this session starts from.
        steps_per_epoch: to tell epochs.
        bar: progress of the loop.
        trackers: get every line after metrics.jsonl has it.
    """

    def __init__(
        self, folder: RunFolder, progress: Progress, steps_per_epoch: float, bar: Bar, trackers: Trackers
    ) -> None:
        self._folder = folder
        self._path = folder.metrics
        self._steps_per_epoch = steps_per_epoch
        self._bar = bar
        self._trackers = trackers
        self._open(progress)

    def _open(self, progress: Progress) -> None:
        """Drops what came after `progress`; what comes next is added to the rest."""
        kept = [line for line in read_metrics(self._folder) if _is_behind(line, progress)]
        write_text_durably(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        with storage_errors(self._path, "write"):
            self._file = self._path.open("ab", buffering=0)
        self._trackers.go_on(kept, progress.step)

    def rewind(self, progress: Progress) -> None:
        """Forgets what came after `progress`: it will come again."""
        self.close()
        self._open(progress)

    def say(self, text: str) -> None:
        """News that is no number."""
        self._bar.say(text)

    def train(self, step: int, loss: float, lr: float, grad_norm: float) -> None:
        """Mean training loss since the last line."""
        numbers = {"train_loss": loss, "lr": lr, "grad_norm": grad_norm}
        self._write(step, numbers)
        self._bar.update(step, f"epoch {step / self._steps_per_epoch:.1f}  loss {loss:.3f}  lr {lr:.3g}")

    def validation(self, step: int, scores: TaskScores, is_best: bool) -> None:
        """Scores of one evaluation."""
        self._write(step, {f"validation_{key}": value for key, value in scores.summary().items()})
        best = "  best so far" if is_best else ""
        self._bar.tell(f"step {step:,}: validation {scores.sentence()}, loss {scores.loss:.3f}{best}")

    def _write(self, step: int, numbers: dict[str, Any]) -> None:
        line = {"step": step, "epoch": round(step / self._steps_per_epoch, 4), **numbers}
        text = json.dumps(line, allow_nan=False) + "\n"
        with storage_errors(self._path, "write", len(text)):
            self._append(text.encode())
        self._trackers.log(line)

    def _append(self, line: bytes) -> None:
        """The whole line or nothing of it."""
        size = self._path.stat().st_size
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:
            with suppress(OSError):
                self._file.truncate(size)
            raise

    def close(self) -> None:
        """Closes the file; more may come after a new beginning."""
        try:
            with storage_errors(self._path, "write"):
                self._file.close()
        finally:
            self._trackers.pause()


class Unwritten:
    """The journal of a rank that another one writes for."""

    def train(self, step: int, loss: float, lr: float, grad_norm: float) -> None:
        """Nothing."""

    def validation(self, step: int, scores: TaskScores, is_best: bool) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def rewind(self, progress: Progress) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _is_behind(line: dict[str, Any], progress: Progress) -> bool:
    """Whether a line tells what `progress` counts: a run may be stopped after a step and before its evaluation."""
    is_evaluation = any(key.startswith("validation_") for key in line)
    return bool(line["step"] <= (progress.evaluated_step if is_evaluation else progress.step))


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl; a torn last line, as a power cut leaves it, is not one."""
    lines: list[dict[str, Any]] = []
    if folder.metrics.exists():
        for text in folder.metrics.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                lines.append(json.loads(text))
    return lines
