"""Checkpoints: one `.pt` file that verifies itself. The only module that calls torch.save and torch.load.

Layout of the file, a plain dict read with `weights_only=True`:

    format    "ptft"
    version   2 (1 had no `seen.*`; it is still read)
    metadata  JSON text of `Metadata`
    tensors   {name: tensor}; the names' first word tells the part:
              backbone.*  head.*   the weights as trained
              ema.*               the averaged weights (ema.backbone.*, ema.head.*), when EMA is on
              optimizer.*         optimizer state, `optimizer.<parameter>.<key>`
              seen.*              fingerprints of the training images of this run and its ancestors, uint8 (N, 33):
                                  `seen.<first 16 digits of the data's fingerprint>`, see `ptft.data.fingerprints`
              start.*             what finetuning began with, as far as l2_sp, interpolate and co_tuning need it
    digest    SHA-256 over all of the above, also the checkpoint's identity in lineages

torch.load verifies nothing: a flipped bit in a tensor loads silently. The digest is checked on every read, and
before that the claims of the file, see `ptft.claims`.
"""

import argparse
import hashlib
import json
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from ptft.claims import ClaimError, check_claims
from ptft.config.base import Config, Names
from ptft.data.images import MAX_IMAGE_SIZE
from ptft.data.sources.base import NumViews
from ptft.distributed.ranks import Ranks
from ptft.errors import CheckpointError
from ptft.storage import write_durably

VERSION = 2
_READABLE = (1, 2)
_EXPORTS = {
    ".onnx": "is an export, for other programs. Give the checkpoint that it was made from.",
    ".safetensors": "holds weights alone. Give the checkpoint; --from, `score` and `inspect` take such a file as well.",
}
_NOT_WEIGHTS = ("ema.", "optimizer.", "seen.", "start.")


class DataSeen(Config):
    """A data set that weights have learnt from."""

    origin: str
    fingerprint: str
    """SHA-256 over the training part: class names, labels and the content of every image."""
    listing: str
    """SHA-256 over which image, by name, is in which part."""
    held_out: str = ""
    """SHA-256 over the content of every validation and test image; empty in older checkpoints."""
    num_examples: int
    classes: Names


class Ancestor(Config):
    """One run in a checkpoint's history."""

    command: Literal["pretrain", "finetune"]
    digest: str | None
    """Digest of the checkpoint the run ended with; None for the run that wrote this checkpoint itself."""
    data: DataSeen
    model: str
    steps: int
    task: str = "single-label"
    """Which kind, see `ptft.tasks`."""
    top1: float | None = None
    """On validation, where there was one; in [0, 1]. Of a single-label task."""
    score: str = ""
    """The same of another task, in words."""
    num_validation: int = 0
    """Validation images behind it."""


class Metadata(Config):
    """Everything in a checkpoint that is not a tensor."""

    command: Literal["pretrain", "finetune"]
    step: int
    num_steps: int
    config: dict[str, Any]
    """The resolved config."""
    classes: Names = Field(min_length=1)
    """In the order of the head's rows; of a regression its targets' names."""
    image_size: int = Field(ge=1, le=MAX_IMAGE_SIZE)
    in_channels: int = Field(ge=1, le=64)
    mean: tuple[float, ...]
    """Per channel, of pixels in [0, 1]."""
    std: tuple[float, ...]
    num_views: NumViews = 1
    """Of each image that is judged: data.num_views."""
    target_mean: tuple[float, ...] = ()
    """Per target of a regression: what the head predicts is in standard deviations from this mean."""
    target_std: tuple[float, ...] = ()
    lineage: tuple[Ancestor, ...] = Field(min_length=1)
    """Oldest first; the last one is the run that wrote this checkpoint."""
    transfer: tuple[dict[str, str], ...] = ()
    """One entry a tensor, from the report of the transfer this run began with."""
    start: tuple[str, ...] = ()
    """What the source was recognised as, the proof of its features, and why recipe auto chose; a sentence each."""
    interpolated: float | None = None
    """Where the weights lie between finetuning's start, 0, and end, 1; null for weights as trained."""
    souped: tuple[int, ...] = ()
    """The seeds whose weights are averaged here; empty for weights of one run."""
    progress: dict[str, Any] = Field(default_factory=dict)
    """What the loop needs to go on: best score, running means, elapsed time."""
    environment: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of_each_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.in_channels:
            raise ValueError("mean and std need a number for each channel")
        if self.target_mean and not len(self.target_mean) == len(self.target_std) == len(self.classes):
            raise ValueError("target_mean and target_std need a number for each target")
        return self


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read and verified.

    Attributes:
        path: where it was read from.
        digest: its identity, SHA-256 in hexadecimal.
        metadata: see `Metadata`.
        tensors: on the CPU, by full name.
    """

    path: Path
    digest: str
    metadata: Metadata
    tensors: Mapping[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name starts with `prefix.`, without it."""
        start = prefix + "."
        return {name.removeprefix(start): tensor for name, tensor in self.tensors.items() if name.startswith(start)}

    def weights(self) -> dict[str, Tensor]:
        """The weights to use: the averaged ones when the run kept an average, else those as trained."""
        return self.part("ema") or {
            name: tensor for name, tensor in self.tensors.items() if not name.startswith(_NOT_WEIGHTS)
        }


FoundT = TypeVar("FoundT", Checkpoint, Checkpoint | None)


def write(path: Path, metadata: Metadata, tensors: Mapping[str, Tensor]) -> str:
    """Writes a checkpoint durably and returns its digest.

    Args:
        path: final name; the old file stays until the new one is safe.
        metadata: see `Metadata`.
        tensors: any device; written as they are, moved to the CPU.

    Raises:
        StorageError: the file could not be written; an older file of this name is untouched.
    """
    # A clone drops the storage behind a view, which torch.save would otherwise write whole.
    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = metadata.model_dump_json()
    identity = _digest(VERSION, text, kept)
    content = {"format": "ptft", "version": VERSION, "metadata": text, "tensors": kept, "digest": identity}
    write_durably(path, lambda file: torch.save(content, file))
    return identity


def read(path: Path) -> Checkpoint:
    """Reads and verifies a checkpoint of ptft.

    Raises:
        CheckpointError: missing, not readable, not a ptft checkpoint, of a newer version, or damaged.
    """
    content = _load(path)
    if not _is_ours(content):
        raise CheckpointError(f"{path} is not a ptft checkpoint. Bare weights can only be given to finetune --from.")
    return _verified(path, content)


def on_every_rank(ranks: Ranks, read: Callable[[], FoundT]) -> FoundT:
    """The checkpoint that `read` finds on rank 0, or None, on every rank: the others need not have the file.

    Raises:
        CheckpointError: from `read`.
    """
    if ranks.is_alone:
        return read()
    found: list[FoundT] = []

    def describe() -> list[Any] | None:
        found.append(read())
        if (here := found[0]) is None:
            return None
        shapes = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in here.tensors.items()}
        return [str(here.path), here.digest, here.metadata.model_dump_json(), shapes]

    told = ranks.from_first(describe)
    if told is None:
        return cast(FoundT, None)
    path, digest, text, shapes = told
    if found and found[0] is not None:
        ranks.copy_first(found[0].tensors)
        return found[0]
    tensors = {
        name: torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
        for name, (dtype, shape) in shapes.items()
    }
    ranks.copy_first(tensors)
    return Checkpoint(Path(path), digest, Metadata.model_validate_json(text), tensors)


def _is_ours(content: object) -> bool:
    format_ = content.get("format") if isinstance(content, dict) else None
    return isinstance(format_, str) and format_ == "ptft"


def _verified(path: Path, content: dict[str, Any]) -> Checkpoint:
    version = content.get("version")
    if type(version) is not int or version not in _READABLE:
        shown = version if type(version) is int else "unknown"
        raise CheckpointError(f"{path} has checkpoint format {shown}; this ptft reads 1 to {VERSION}. Update ptft.")
    if not _is_intact(content):
        raise CheckpointError(
            f"{path} is damaged: its content does not match its digest. Use another copy or an older checkpoint."
        )
    try:
        metadata = Metadata.model_validate_json(content["metadata"])
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(map(str, found["loc"]))
        advice = " Update ptft." if found["type"] == "extra_forbidden" else ""
        raise CheckpointError(
            f"{path} holds metadata that this ptft cannot read: {place}: {found['msg']}.{advice}"
        ) from error
    return Checkpoint(path, content["digest"], metadata, content["tensors"])


def read_weights(path: Path) -> Checkpoint | dict[str, Any]:
    """Reads a ptft checkpoint, or what another tool has saved: tensors and plain values, nested.

    Raises:
        CheckpointError: missing, damaged, or no dict of names.
    """
    content = _load(path)
    if _is_ours(content):
        return _verified(path, content)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} is neither a ptft checkpoint nor a state dict (a dict of names to tensors).")
    return dict(content)


def _load(path: Path) -> Any:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise CheckpointError(f"{path}: no such checkpoint file ({error.strerror}).") from error
    if stat.S_ISDIR(mode):
        raise CheckpointError(f"{path} is a folder. Name a file in it, for example {path}/checkpoints/best.pt.")
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is not a regular file. Copy the checkpoint to a file first.")
    try:
        with path.open("rb") as file:
            check_claims(file)
            # argparse.Namespace holds values and runs nothing: timm, DINO and MAE save their arguments in one.
            with torch.serialization.safe_globals([argparse.Namespace]):
                return torch.load(file, map_location="cpu", weights_only=True)
    except ClaimError as error:
        told = _EXPORTS.get(path.suffix.lower(), str(error))
        raise CheckpointError(f"{path} {told}") from error
    except PermissionError as error:
        raise CheckpointError(f"{path}: no permission to read it.") from error
    except Exception as error:
        # The unpickler meets arbitrary bytes here, and raises whatever they lead it to.
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint: not a file of tensors and plain values ({type(error).__name__})."
        ) from error


def _are_tensors(content: object) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(name, str) and _is_plain(tensor) for name, tensor in content.items())
    )


def _is_plain(tensor: object) -> bool:
    """Whether it is numbers in memory: not sparse, quantized, meta, nested, nor a subclass with a life of its own."""
    return (
        isinstance(tensor, Tensor)
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg())
    )


def _is_intact(content: dict[str, Any]) -> bool:
    text, tensors, digest = content.get("metadata"), content.get("tensors"), content.get("digest")
    if not isinstance(text, str) or not isinstance(digest, str) or not _are_tensors(tensors):
        return False
    return digest == _digest(content["version"], text, content["tensors"])


def _digest(version: int, metadata: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the version, the metadata and every tensor's name, dtype, shape and bytes, in name order."""
    sha = hashlib.sha256(f"ptft {version}\n{len(metadata)}\n{metadata}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
