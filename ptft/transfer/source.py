"""What finetuning starts from: weights, and all that is known about them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ptft.checkpoint import Ancestor, Checkpoint
from ptft.data.labelling import Scale
from ptft.data.task import Format
from ptft.errors import CheckpointError
from ptft.models import Model
from ptft.models.outline import outline


@dataclass(frozen=True)
class SourceWeights:
    """Weights of a source task.

    Attributes:
        tensors: `backbone.*` and `head.*`, perhaps wrapped, and whatever else the source holds.
        classes: names of the head's rows; empty when not known.
        format: the images it was trained on; None when not known.
        model: its architecture; None when not known.
        lineage: the runs behind it, oldest first; empty for foreign weights.
        in_channels: that its first convolution takes; None when not known.
        said: what was found and what is assumed, a sentence each; empty for a ptft checkpoint.
        network: the source's own network, images (B, C, H, W) to features (B, D), where its library gave it.
        seen: fingerprints of the images those runs trained on, see `ptft.transfer.seen`.
        task: which kind its head is for; foreign weights are taken for a classifier's.
        scale: of its targets, where it is a regression.
    """

    tensors: Mapping[str, Tensor]
    classes: tuple[str, ...]
    format: Format | None
    model: Model | None
    lineage: tuple[Ancestor, ...]
    in_channels: int | None = None
    said: tuple[str, ...] = ()
    network: Callable[[Tensor], Tensor] | None = None
    seen: Mapping[str, Tensor] = field(default_factory=dict)
    task: str = "single-label"
    scale: Scale | None = None

    def model_for(self, given: Model | None) -> Model | None:
        """The target's architecture: as the config gives it, what it leaves open filled in; else the source's."""
        if given is None or self.model is None:
            return given or self.model
        return given.following(self.model, self.in_channels)

    @classmethod
    def of(cls, saved: Checkpoint) -> "SourceWeights":
        """What a run that goes on knew of its source, from the run's own checkpoint."""
        metadata = saved.metadata
        known = format_of(saved), model_of(saved), metadata.lineage[:-1], metadata.in_channels
        return cls({}, (), *known, seen=saved.part("seen"))

    @classmethod
    def of_checkpoint(cls, found: Checkpoint) -> "SourceWeights":
        """A ptft checkpoint as a source."""
        *ancestors, own = found.metadata.lineage
        lineage = (*ancestors, own.model_copy(update={"digest": found.digest}))
        metadata = found.metadata
        known = format_of(found), model_of(found), lineage, metadata.in_channels
        return cls(
            found.weights(),
            metadata.classes,
            *known,
            seen=found.part("seen"),
            task=metadata.lineage[-1].task,
            scale=scale_of(found),
        )


def format_of(found: Checkpoint) -> Format:
    """The image format recorded in a checkpoint."""
    metadata = found.metadata
    return Format(metadata.image_size, metadata.in_channels, metadata.mean, metadata.std, metadata.num_views)


def scale_of(found: Checkpoint) -> Scale | None:
    """What the targets of a regression were standardised by; None for a checkpoint of another task."""
    metadata = found.metadata
    return Scale(metadata.target_mean, metadata.target_std) if metadata.target_mean else None


def model_of(found: Checkpoint) -> Model:
    """The architecture recorded in a checkpoint.

    Raises:
        CheckpointError: this ptft has no such model, or it is much larger than the weights beside it: a small file
            could otherwise ask for any amount of memory.
    """
    try:
        model: Model = TypeAdapter(Model).validate_python(found.metadata.config.get("model"))
    except ValidationError as error:
        raise CheckpointError(f"{found.path} names a model that this ptft does not know. Update ptft.") from error
    asked = sum(shape.numel() for shape in shapes_of(found, model).values())
    held = sum(tensor.numel() for tensor in found.weights().values())
    if asked > 2 * held:
        raise CheckpointError(
            f"{found.path}: its weights are not those of its model: {model.name} has {asked:,} numbers, "
            f"the file holds {held:,}."
        )
    return model


def shapes_of(found: Checkpoint, model: Model) -> dict[str, torch.Size]:
    """Shape of every weight the model of a checkpoint has, by name; computed without memory for the weights."""
    classifier = outline(model, len(found.metadata.classes), found.metadata.in_channels)
    return {name: tensor.shape for name, tensor in classifier.state_dict().items()}
