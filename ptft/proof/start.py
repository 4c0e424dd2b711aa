"""A checkpoint as a start for finetuning: what must be known of it before its features are computed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ptft.checkpoint import Ancestor
from ptft.data.task import Format
from ptft.errors import CheckpointError, UsageError
from ptft.models import Model
from ptft.models.classifier import Classifier
from ptft.runtime import derive_seed
from ptft.transfer.load import transfer
from ptft.transfer.recipes import TransferConfig
from ptft.transfer.sources import read_source


@dataclass(frozen=True)
class Start:
    """A checkpoint that finetuning could start from; its tensors are read again when their turn comes.

    Attributes:
        path: as the user typed it.
        model: its architecture.
        format: the images it is given.
        lineage: the runs behind it, oldest first.
        fingerprint: SHA-256 over its weights alone.
    """

    path: Path
    model: Model
    format: Format
    lineage: tuple[Ancestor, ...]
    fingerprint: str

    @classmethod
    def read(cls, path: Path, image_size: int | None) -> "Start":
        """Reads a checkpoint; `image_size` replaces its own, as in finetuning.

        Raises:
            CheckpointError: it cannot be read, or does not say which model or images it is for.
            UsageError: the model cannot take images of that size.
        """
        weights = read_source(path)
        if weights.model is None or weights.format is None:
            raise CheckpointError(
                f"{path} does not say which model it is of, or for which images. finetune --from it, with a config "
                "that has `model:`, writes a checkpoint that does."
            )
        format_ = replace(weights.format, image_size=image_size or weights.format.image_size, num_views=1)
        smallest = weights.model.min_image_size()
        if format_.image_size < smallest:
            raise UsageError(
                f"data.image_size: {path} is a {weights.model.name}, which needs images of at least {smallest} "
                f"pixels, these have {format_.image_size}."
            )
        return cls(path, weights.model, format_, weights.lineage, fingerprint_of(weights.tensors))

    @property
    def digest(self) -> str | None:
        """Identity of the checkpoint, as `ptft inspect` tells it."""
        return self.lineage[-1].digest if self.lineage else None

    @property
    def shape(self) -> tuple[int, int]:
        """Side in pixels and channels of its images."""
        return self.format.image_size, self.format.in_channels

    @property
    def architecture(self) -> str:
        """The same for two checkpoints whose random weights would serve equally well."""
        return f"{self.model.model_dump_json()} {self.shape}"

    def random(self, classes: tuple[str, ...], seed: int = 0, draw: int = 0) -> Classifier:
        """Its model with random weights, on the CPU; others for each seed and draw."""
        torch.manual_seed(derive_seed("zero", seed, draw))
        return self.model.build(len(classes), self.format.in_channels)

    def loaded(self, classes: tuple[str, ...]) -> Classifier:
        """Its model with its weights, as finetuning for these classes would begin.

        Raises:
            CheckpointError: the file changed meanwhile; TransferError when the weights are not the model's.
        """
        weights, classifier = read_source(self.path), self.random(classes)
        transfer(
            classifier,
            weights.tensors,
            source_classes=weights.classes,
            target_classes=classes,
            min_loaded=TransferConfig().min_loaded,
        )
        return classifier


def fingerprint_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and values of weights, in hexadecimal."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        sha.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
