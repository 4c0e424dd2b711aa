"""Paths as users type them."""

import os
from pathlib import Path


def user_path(text: str | Path) -> Path:
    """The path the user typed, `~` expanded where there is such a home folder.

    A shell does not expand it in `--data=~/photos`, in `--set out=~/runs` or in a config.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def real_path(path: str | Path) -> Path:
    """The absolute path, links followed as far as they lead: also where they lead in a circle."""
    return Path(os.path.realpath(path))
