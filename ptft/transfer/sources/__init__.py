"""Weights from anywhere: one file for each kind of source."""

from pathlib import Path

from ptft.models import Model
from ptft.transfer.origin import Origin
from ptft.transfer.source import SourceWeights
from ptft.transfer.sources.files import read_file
from ptft.transfer.sources.timm import read_timm
from ptft.transfer.sources.torchvision import read_torchvision


def read_source(origin: Origin, model: Model | None = None) -> SourceWeights:
    """Reads the weights a finetuning starts from. Executes nothing that is in a file.

    Args:
        origin: a ptft checkpoint, a state dict, or a training checkpoint that holds one (`.pt`, `.pth`,
            `.safetensors`); `torchvision:ResNet18_Weights.IMAGENET1K_V1`; `timm:NAME`.
        model: the model to fit the weights to, where the file does not say; None to recognise it.

    Raises:
        CheckpointError: the weights cannot be read, fetched or recognised.
        UsageError: a library that reads them is not installed.
    """
    kind, colon, name = str(origin).partition(":")
    if colon and kind == "torchvision":
        return read_torchvision(name)
    if colon and kind == "timm":
        return read_timm(name, model)
    return read_file(Path(origin), model)
