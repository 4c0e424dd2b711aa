"""What makes a run the run it is, so that a checkpoint of another one in its folder is noticed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError

from ptft import checkpoint
from ptft.checkpoint import Checkpoint, read_weights
from ptft.errors import CheckpointError
from ptft.report.console import Console
from ptft.run.drift import MAY_CHANGE, flat
from ptft.run_folder import RunFolder
from ptft.settings import FinetuneConfig, RunConfig
from ptft.transfer.origin import Origin, is_name


@dataclass(frozen=True)
class Identity:
    """What a run keeps to its end.

    Two runs of one identity on one data set are the same run: all randomness comes from the seed.

    Attributes:
        kind: of the config.
        command: `pretrain` or `finetune`.
        config: keys and values of the resolved config that a run keeps to its end.
        parent: digest of the checkpoint that a finetuning starts from; None when not known.
    """

    kind: type[RunConfig]
    command: Literal["pretrain", "finetune"]
    config: Mapping[str, Any]
    parent: str | None = None

    @classmethod
    def of(cls, config: RunConfig, source: Origin | None = None) -> Self:
        """The identity of the run of `config`, a finetuning from `source` where that is given."""
        kept = _kept(config.model_dump(mode="json"))
        # Random weights descend from nothing.
        is_random = isinstance(config, FinetuneConfig) and config.transfer.recipe == "random"
        parent = _digest(source) if source and not is_random else None
        return cls(type(config), "finetune" if source else "pretrain", kept, parent)

    def check(self, found: Checkpoint) -> None:
        """Raises CheckpointError when a checkpoint was not written by this run."""
        metadata = found.metadata
        other = f"{found.path} is a checkpoint of another run"
        if metadata.command != self.command:
            raise CheckpointError(f"{other}: of a {metadata.command}.")
        theirs = _kept(self._completed(metadata.config))
        for key in sorted(self.config.keys() | theirs.keys()):
            if self.config.get(key) != theirs.get(key):
                raise CheckpointError(f"{other}: {key} is {theirs.get(key)!r} there and {self.config.get(key)!r} here.")
        ancestors = metadata.lineage[:-1]
        if self.parent and (ancestors[-1].digest if ancestors else None) != self.parent:
            raise CheckpointError(f"{other}: it started from another checkpoint.")

    def _completed(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the defaults of keys that there were not yet when it was written: what they then meant."""
        try:
            return self.kind.model_validate(config, context={"stored": True}).model_dump(mode="json")
        except ValidationError:
            return config


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat(config).items() if key not in MAY_CHANGE and value is not None}


def _digest(source: Origin) -> str | None:
    """Of a ptft checkpoint; None for weights without one, or a file that is gone since the run began."""
    if is_name(source):
        return None
    try:
        found = read_weights(Path(source))
    except CheckpointError:
        return None
    return found.digest if isinstance(found, Checkpoint) else None


def newest_checkpoint(folder: RunFolder, identity: Identity, console: Console) -> Checkpoint | None:
    """The newest intact checkpoint of a run; None where nothing was saved yet.

    Args:
        folder: of the run.
        identity: of the run; an intact checkpoint of another run counts as damaged.
        console: told which checkpoints cannot be used.

    Raises:
        CheckpointError: checkpoints are there, and none can be used.
    """
    failures = []
    for path in folder.saved_paths():
        try:
            found = checkpoint.read(path)
            identity.check(found)
            return found
        except CheckpointError as error:
            failures.append(str(error))
            console.say(f"{error} Trying the one before.")
    if failures:
        raise CheckpointError(f"no intact checkpoint of this run in {folder.checkpoints}. {failures[-1]}")
    return None
