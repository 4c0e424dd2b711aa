"""Weights & Biases: a run where WANDB_MODE, WANDB_BASE_URL, WANDB_PROJECT and WANDB_ENTITY say."""

import os
import uuid
from collections.abc import Sequence
from typing import Any

from ptft.tracking.base import Ending, StepNumbers, TrackedRun, read_note, write_note


class Wandb:
    """Config, numbers by step, summary. No code, no console output, no system statistics, no files are sent.

    The project is WANDB_PROJECT, else `ptft`. With WANDB_MODE=offline nothing leaves the machine until `wandb sync`.

    Args:
        run: what to show.
    """

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._wandb: Any = None
        self._id = ""
        self._sent: dict[str, int] = {}

    @property
    def place(self) -> str:
        """`run ID at URL`, or the folder of an offline run."""
        return f"run {self._id} at {self._wandb.url or self._wandb.dir}"

    def begin(self) -> dict[str, int]:
        """Creates the run, or goes on with that of the run folder; the last step that was sent of each number.

        Raises:
            Exception: any of wandb's.
        """
        import wandb

        note = read_note(self._run.folder, "wandb")
        self._id, self._sent = note.get("run_id") or uuid.uuid4().hex[:12], note.get("sent", {})
        self._note()
        self._wandb = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "ptft",
            id=self._id,
            name=str(self._run.folder.path),
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_code=True,
                disable_git=True,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
        )
        self._wandb.config.update({**self._run.config, **self._run.facts}, allow_val_change=True)
        # Its own step only rises, which lines that are sent late would not; so ours is a number like the others.
        self._wandb.define_metric("*", step_metric="step")
        return dict(self._sent)

    def log(self, points: Sequence[StepNumbers]) -> None:
        """Sends numbers of some steps; Exception as `begin`."""
        for step, numbers in points:
            self._wandb.log({"step": step, **numbers})
            self._sent |= dict.fromkeys(numbers, step)
        self._note()

    def end(self, ending: Ending) -> None:
        """Sends the final scores and how the run ended; Exception as `begin`."""
        facts = {"state": ending.state, "exit_code": ending.exit_code, "reason": ending.reason}
        self._wandb.summary.update({**ending.scores, **facts, **ending.facts})
        if ending.state == "stopped":
            self._wandb.mark_preempting()
        self._wandb.finish(exit_code=ending.exit_code)

    def _note(self) -> None:
        write_note(self._run.folder, "wandb", {"run_id": self._id, "sent": self._sent})
