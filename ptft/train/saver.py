"""Where states go: numbered checkpoints in the run folder, `last.pt` and `best.pt` as names for two of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptft import checkpoint
from ptft.checkpoint import Checkpoint, Metadata
from ptft.distributed.ranks import ALONE, Ranks
from ptft.errors import NotFiniteError
from ptft.models.classifier import Classifier
from ptft.run_folder import RunFolder
from ptft.storage import link_durably, storage_errors, sync_file
from ptft.train.metrics import TaskScores
from ptft.train.state import State


class Saver:
    """Writes checkpoints durably and removes old ones only afterwards.

    Args:
        folder: the run folder.
        metadata: of this run; step, progress and score are filled in at each save.
        keep: how many numbered checkpoints stay.
        seen: fingerprints that travel in every checkpoint, as `ptft.transfer.seen` names them.
        ranks: of which the first one writes.
    """

    def __init__(
        self, folder: RunFolder, metadata: Metadata, keep: int, seen: Mapping[str, Tensor], ranks: Ranks = ALONE
    ) -> None:
        self._folder = folder
        self._metadata = metadata
        self._keep = keep
        self._seen = {f"seen.{key}": prints for key, prints in seen.items()}
        self._ranks = ranks
        self._saved_step = -1

    @property
    def newest(self) -> Path | None:
        """The state to resume from; None before the first."""
        return self._folder.last if self._folder.last.exists() else None

    def restore(self, state: State) -> None:
        """Goes back to the newest saved state, which the next save may then replace.

        Raises:
            CheckpointError: it cannot be read.
        """
        saved = checkpoint.on_every_rank(self._ranks, lambda: checkpoint.read(self._folder.last))
        state.restore(saved.tensors, saved.metadata.progress)
        self._saved_step = -1

    def save_last(self, state: State) -> None:
        """Makes this state the one to resume from.

        Raises:
            NotFiniteError: a weight, an average or a tensor of the optimizer is not finite; nothing is written.
            StorageError: it cannot be written; the older checkpoints stay.
        """
        self._save(state, is_best=False)

    def save_best(self, state: State) -> None:
        """Makes this state the best so far, and the one to resume from; errors as `save_last`."""
        self._save(state, is_best=True)

    def _save(self, state: State, is_best: bool) -> None:
        step = state.progress.step
        if step == self._saved_step:
            return
        tensors = state.tensors()
        self._check_finite(tensors, step)
        if not self._ranks.is_first:
            self._saved_step = step
            return
        # A checkpoint that counts a line of metrics.jsonl must never outlive it.
        sync_file(self._folder.metrics)
        path = self._folder.checkpoints / f"step-{step:09d}.pt"
        checkpoint.write(path, self._describe(state), tensors | self._seen)
        # best.pt before last.pt: a run killed in between resumes from an older state and finds this best again.
        if is_best:
            link_durably(path, self._folder.best)
        link_durably(path, self._folder.last)
        self._saved_step = step
        self._prune()
        self._folder.write_status("running", step, self._metadata.num_steps)

    def _describe(self, state: State) -> Metadata:
        progress = state.progress
        is_best = progress.best_step == progress.step and progress.step > 0
        *ancestors, own = self._metadata.lineage
        own = own.model_copy(update={"steps": progress.step, **(progress.best_told if is_best else {})})
        return self._metadata.model_copy(
            update={"step": progress.step, "progress": state.progress_dict(), "lineage": (*ancestors, own)}
        )

    def _prune(self) -> None:
        with storage_errors(self._folder.checkpoints, "tidy"):
            for path in sorted(self._folder.checkpoints.glob("step-*.pt"))[: -self._keep]:
                path.unlink()

    def _check_finite(self, tensors: Mapping[str, Tensor], step: int) -> None:
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                saved = f"The last good checkpoint is {self.newest}." if self.newest else "Nothing was saved before."
                raise NotFiniteError(
                    f"{name} is not finite after step {step:,}; it was not saved. {saved} In a new run folder, lower "
                    "optim.lr, or set train.clip_norm or train.precision: fp32."
                )


def replace_best(
    folder: RunFolder, best: Checkpoint, model: Classifier, scores: TaskScores | None, note: dict[str, Any]
) -> None:
    """Makes weights that were made of those in a checkpoint the new `best.pt`, with their scores on validation, if any.

    `note` has the fields of the metadata that say how they were made.
    """
    *ancestors, own = best.metadata.lineage
    lineage = (*ancestors, own.model_copy(update=scores.ancestry() if scores else {}))
    seen = {name: tensor for name, tensor in best.tensors.items() if name.startswith("seen.")}
    checkpoint.write(
        folder.best, best.metadata.model_copy(update={**note, "lineage": lineage}), model.state_dict() | seen
    )
