"""What a run folder says about its run, finished or not: config, numbers, summary."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptft.config.document import read
from ptft.errors import StorageError, UsageError
from ptft.report.journal import read_metrics
from ptft.run_folder import RunFolder
from ptft.storage import storage_errors


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it.

    Attributes:
        folder: the run folder.
        name: how a page calls it: that of its folder.
        config: resolved, as nested sections.
        status: of status.json; empty when it cannot be read.
        metrics: the lines of metrics.jsonl.
        summary: of summary.json; None while the run has not finished.
    """

    folder: RunFolder
    name: str
    config: dict[str, Any]
    status: dict[str, Any]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] | None

    @property
    def command(self) -> str:
        """`pretrain` or `finetune`."""
        lineage = (self.summary or {}).get("lineage")
        return str(lineage[-1]["command"] if lineage else self.status.get("command", "run"))

    @property
    def task(self) -> str:
        """Which kind of task; see `ptft.tasks`."""
        section = self.config.get("task")
        return str(section.get("name")) if isinstance(section, dict) else "single-label"

    @property
    def part(self) -> str | None:
        """The part its accuracy is of: test where there is one, else validation; None without either."""
        return next((part for part in ("test", "validation") if part in (self.summary or {})), None)

    @property
    def scores(self) -> dict[str, Any] | None:
        """The scores on that part, as in summary.json."""
        return self.summary[self.part] if self.summary and self.part else None

    @property
    def final(self) -> Path | None:
        """The final checkpoint, whether or not it is still there; None while there is none."""
        return self.folder.checkpoints / Path(self.summary["checkpoint"]).name if self.summary else None


def read_run(path: Path) -> RunRecord:
    """Reads a run folder.

    Raises:
        UsageError: it is not one, or its config cannot be read.
        StorageError: summary.json is damaged, or a file cannot be read.
    """
    folder = RunFolder(path)
    with storage_errors(path, "read"):
        _check(folder)
    config = read(folder.config).data
    with storage_errors(path, "read"):
        status = _parse(folder.status) or {}
        if status.get("command") == "compare":
            raise UsageError(
                f"{path} holds a comparison, not a run. Its page is {folder.report}, which `ptft compare` with "
                f"--resume makes where it is gone; its runs are in {path / 'cells'}."
            )
        summary = _parse(folder.summary)
        metrics = read_metrics(folder)
    if summary is None and folder.summary.exists():
        raise StorageError(f"{folder.summary} is damaged. Remove it; the run's command with --resume writes it anew.")
    return RunRecord(folder, path.resolve().name, config, status, metrics, summary)


def _check(folder: RunFolder) -> None:
    path = folder.path
    if not path.exists():
        raise UsageError(f"{path}: no such folder. Name the folder of a run, for example runs/my-photos.")
    if not path.is_dir():
        run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
        hint = f"Name the run's folder: {run}" if RunFolder(run).is_started() else "Name the folder of a run"
        raise UsageError(f"{path} is a file. {hint}.")
    if not folder.is_started():
        status = _parse(folder.status) or {}
        if reason := status.get("reason"):
            raise UsageError(f"{path}: the run in it ended before it began, so there is nothing to show: {reason}")
        if status.get("state") == "running":
            raise UsageError(f"{path}: the run in it is reading its images, or was killed then. Nothing to show yet.")
        inside = sorted(str(found.parent) for found in path.glob("*/config.yaml"))[:3]
        hint = f" Runs are in it: {', '.join(inside)}." if inside else " Name the folder that --out or runs/NAME named."
        raise UsageError(f"{path} is not a run folder: no config.yaml in it.{hint}")


def _parse(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is none, or something else."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None
