"""Durable files: written beside their final name, synced, renamed; I/O failures told as one sentence."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ptft.errors import StorageError

_ADVICE = {
    errno.ENOSPC: "Free some space, then go on with --resume.",
    errno.EDQUOT: "The quota is used up; free some space, then go on with --resume.",
    errno.EFBIG: "A file size limit (ulimit -f) was reached; raise it, then go on with --resume.",
    errno.EACCES: "Check the permissions of the folder.",
    errno.EPERM: "Check the permissions of the folder.",
    errno.EROFS: "The file system is read-only; choose another folder with --out.",
    errno.EMFILE: "Too many open files (ulimit -n).",
}


@contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turns any OSError inside into a StorageError that names the path and the free space.

    Args:
        path: the file or folder being worked on.
        doing: the verb of the sentence: `write`, `read`, `create`.

    Raises:
        StorageError: for every OSError raised inside.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "")
        raise StorageError(f"cannot {doing} {path}: {reason}{_free_space(path)}. {advice}".rstrip()) from error


def _free_space(path: Path) -> str:
    for folder in (path, *path.parents):
        with suppress(OSError):
            return f" ({shutil.disk_usage(folder).free / 1e6:,.1f} MB free)"
    return ""


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replaces `path` by what `write` writes, so that a crash leaves the old file or the new one, never half.

    The bytes go to a file beside `path` (never through TMPDIR, which may be another file system), are synced,
    then renamed over `path`; the folder is synced last.

    Args:
        path: final name; its folder must exist.
        write: gets a file opened for binary writing.

    Raises:
        StorageError: disk full, no permission, I/O error; `path` is untouched and nothing is left beside it.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(path, "write"):
        try:
            with beside.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def link_durably(existing: Path, path: Path) -> None:
    """Makes `path` name the same bytes as `existing`: a hard link, or a copy where links are not supported.

    Raises:
        StorageError: as `write_durably`.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(path, "write"):
        beside.unlink(missing_ok=True)
        try:
            os.link(existing, beside)
        except OSError:
            write_durably(path, lambda file: file.write(existing.read_bytes()))
            return
        beside.replace(path)
        sync_folder(path.parent)


def write_text_durably(path: Path, text: str) -> None:
    """`write_durably` for UTF-8 text."""
    write_durably(path, lambda file: file.write(text.encode()))


def sync_folder(folder: Path) -> None:
    """Makes renames and removals inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
