"""What a run came to: summary.json, and the same for the console."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ptft.checkpoint import Checkpoint
from ptft.data.records import PARTS, Part
from ptft.data.sources.listing import some
from ptft.data.task import Task
from ptft.proof.leak import LeakCheck
from ptft.run_folder import RunFolder
from ptft.storage import write_text_durably
from ptft.train.metrics import TaskScores


@dataclass(frozen=True)
class Summary:
    """A finished run.

    Attributes:
        command: as typed.
        checkpoint: the final one.
        scores: of its weights, in fp32, on validation and test where those parts exist.
        steps: optimizer steps completed.
        num_nonfinite: how often loss or gradient was not finite and training went on.
        seconds: spent in training.
        reason: why training ended.
        bad_images: one line for each image that was left out.
        calibration: of the test part, else validation (`ptft.report.evidence.describe_calibration`); None without any.
        leak: whether training has seen test images; None where it was not checked.
    """

    command: str
    checkpoint: Checkpoint
    scores: Mapping[Part, TaskScores]
    steps: int
    num_nonfinite: int
    seconds: float
    reason: str
    bad_images: Sequence[str]
    calibration: dict[str, Any] | None = None
    leak: LeakCheck | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain Python for summary.json and `--json`."""
        metadata = self.checkpoint.metadata
        return {
            "checkpoint": str(self.checkpoint.path),
            "digest": self.checkpoint.digest,
            "command": self.command,
            "reason": self.reason,
            "steps": self.steps,
            "num_nonfinite": self.num_nonfinite,
            "best_step": metadata.step,
            "interpolated": metadata.interpolated,
            "souped": list(metadata.souped),
            "seconds": round(self.seconds, 3),
            "classes": list(metadata.classes),
            "num_views": metadata.num_views,
            **{part: describe_scores(scores, metadata.classes) for part, scores in self.scores.items()},
            "calibration": self.calibration,
            "leak": self.leak.as_dict() if self.leak else None,
            "bad_images": list(self.bad_images),
            "lineage": [ancestor.model_dump(mode="json") for ancestor in metadata.lineage],
            "start": list(metadata.start),
            "transfer": list(metadata.transfer),
            "environment": metadata.environment,
        }


def describe_scores(scores: TaskScores, classes: Sequence[str]) -> dict[str, Any]:
    """Scores as plain Python: one-line numbers, and all that belongs to the task, such as the numbers per class."""
    return {**scores.summary(), **scores.details(classes)}


def write_summary(folder: RunFolder, summary: Summary) -> None:
    """Replaces summary.json."""
    write_text_durably(folder.summary, json.dumps(summary.as_dict(), indent=1, allow_nan=False) + "\n")


def describe_task(task: Task) -> list[str]:
    """Two or three lines about the data, and one for each image left out."""
    format_ = task.format
    counts = ", ".join(f"{len(task.parts[part]):,} {part}" for part in PARTS if part in task.parts)
    channels = "grey" if format_.in_channels == 1 else f"{format_.in_channels} channels"
    lines = [
        f"data: {task.origin}: {counts}; {len(task.classes)} {task.labelling.nouns[len(task.classes) != 1]}; "
        f"{format_.image_size}x{format_.image_size} pixels, {channels}{_crops(task)}."
    ]
    if "validation" not in task.parts and "test" not in task.parts:
        lines.append("data: neither validation nor test images: nothing will be scored. Add images, or data.test.")
    elif "validation" not in task.parts:
        lines.append("data: no validation part to choose a checkpoint by; the last one counts.")
    elif "test" not in task.parts:
        lines.append("data: no test part; what validation says is optimistic, it also chooses the best checkpoint.")
    if "test" in task.parts:
        seen = zip(task.classes, task.class_counts("test"), strict=True)
        if unseen := [name for name, count in seen if not count]:
            lines.append(f"data: no test images of {some(unseen)}: what the test says leaves that out.")
    if task.passed_over:
        lines.append(f"data: {task.passed_over}")
    lines += [f"left out: {line}" for line in task.bad_images]
    return lines


def _crops(task: Task) -> str:
    """What random resized crops are cut from, where that is larger."""
    if task.train.larger is None:
        return ""
    side = task.train.larger.take(torch.tensor([0])).shape[-1]
    return f"; training crops from {side}x{side}"
