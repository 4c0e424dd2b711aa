"""What finetuning starts from: weights, and all that is known about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ptft.checkpoint import Ancestor, Checkpoint, read_weights
from ptft.data.task import Format
from ptft.errors import CheckpointError
from ptft.models import Model


@dataclass(frozen=True)
class SourceWeights:
    """Weights of a source task.

    Attributes:
        tensors: by the source's names.
        classes: names of the head's rows; empty when not known.
        format: the images it was trained on; None when not known.
        model: its architecture; None when not known.
        lineage: the runs behind it, oldest first.
        seen: fingerprints of the images those runs trained on, see `ptft.transfer.seen`.
    """

    tensors: Mapping[str, Tensor]
    classes: tuple[str, ...]
    format: Format | None
    model: Model | None
    lineage: tuple[Ancestor, ...]
    seen: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "SourceWeights":
        """Reads a ptft checkpoint, or a bare state dict of which nothing else is known.

        Raises:
            CheckpointError: neither, or damaged.
        """
        found = read_weights(path)
        if not isinstance(found, Checkpoint):
            return cls(found, (), None, None, ())
        *ancestors, own = found.metadata.lineage
        lineage = (*ancestors, own.model_copy(update={"digest": found.digest}))
        return cls(
            found.weights(), found.metadata.classes, format_of(found), model_of(found), lineage, found.part("seen")
        )

    @classmethod
    def of(cls, saved: Checkpoint) -> "SourceWeights":
        """What a run that goes on knew of its source, from the run's own checkpoint."""
        return cls({}, (), format_of(saved), model_of(saved), saved.metadata.lineage[:-1], saved.part("seen"))


def format_of(found: Checkpoint) -> Format:
    """The image format recorded in a checkpoint."""
    metadata = found.metadata
    return Format(metadata.image_size, metadata.in_channels, metadata.mean, metadata.std)


def model_of(found: Checkpoint) -> Model:
    """The architecture recorded in a checkpoint.

    Raises:
        CheckpointError: this ptft has no such model.
    """
    try:
        model: Model = TypeAdapter(Model).validate_python(found.metadata.config.get("model"))
    except ValidationError as error:
        raise CheckpointError(f"{found.path} names a model that this ptft does not know. Update ptft.") from error
    return model
