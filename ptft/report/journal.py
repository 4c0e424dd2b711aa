"""The numbers of a run as they come: metrics.jsonl, TensorBoard events, the console."""

import json
from contextlib import suppress
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from ptft.report.console import Bar
from ptft.run_folder import RunFolder
from ptft.storage import storage_errors, write_text_durably
from ptft.train.metrics import Scores


class Journal:
    """Writes each number once, whatever happened to earlier sessions of the run.

    Args:
        folder: of the run; lines of metrics.jsonl after `step` are dropped, they will come again.
        step: steps completed when this session starts.
        steps_per_epoch: to tell epochs.
        bar: progress of the loop.
    """

    def __init__(self, folder: RunFolder, step: int, steps_per_epoch: float, bar: Bar) -> None:
        self._folder = folder
        self._path = folder.metrics
        self._steps_per_epoch = steps_per_epoch
        self._bar = bar
        self._open(step)

    def _open(self, step: int) -> None:
        """Drops what came after `step`; what comes next is added to the rest."""
        kept = [line for line in read_metrics(self._folder) if line["step"] <= step]
        write_text_durably(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        with storage_errors(self._path, "write"):
            self._file = self._path.open("a", encoding="utf-8")
            self._events = SummaryWriter(str(self._folder.path), purge_step=step + 1 if step else None)

    def rewind(self, step: int) -> None:
        """Forgets what came after `step`: it will come again."""
        self.close()
        self._open(step)

    def say(self, text: str) -> None:
        """News that is no number."""
        self._bar.say(text)

    def train(self, step: int, loss: float, lr: float, grad_norm: float) -> None:
        """Mean training loss since the last line."""
        numbers = {"train_loss": loss, "lr": lr, "grad_norm": grad_norm}
        self._write(step, numbers)
        self._bar.update(step, f"epoch {step / self._steps_per_epoch:.1f}  loss {loss:.3f}  lr {lr:.3g}")

    def validation(self, step: int, scores: Scores, is_best: bool) -> None:
        """Scores of one evaluation."""
        self._write(step, {f"validation_{key}": value for key, value in scores.summary().items()})
        best = "  best so far" if is_best else ""
        self._bar.tell(f"step {step:,}: validation {scores.sentence()}, loss {scores.loss:.3f}{best}")

    def _write(self, step: int, numbers: dict[str, Any]) -> None:
        line = {"step": step, "epoch": round(step / self._steps_per_epoch, 4), **numbers}
        text = json.dumps(line, allow_nan=False)
        with storage_errors(self._path, "write"):
            self._file.write(text + "\n")
            self._file.flush()
            for key, value in numbers.items():
                self._events.add_scalar(key, value, step)

    def close(self) -> None:
        """Closes both files."""
        with storage_errors(self._path, "write"):
            self._file.close()
            self._events.close()


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl; a torn last line, as a power cut leaves it, is not one."""
    lines: list[dict[str, Any]] = []
    if folder.metrics.exists():
        for text in folder.metrics.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                lines.append(json.loads(text))
    return lines
