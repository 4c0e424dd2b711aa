"""Where the weights of a finetuning come from, before anything is read. Imports no torch."""

from pathlib import Path

Origin = str | Path
"""A file, or `torchvision:WEIGHTS`, or `timm:NAME`."""


def is_name(origin: Origin) -> bool:
    """Whether a library knows the weights by this name; else the origin is a file."""
    return str(origin).startswith(("torchvision:", "timm:"))
