"""Durable files: written beside their final name, synced, renamed; I/O failures told as one sentence."""

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from ptft.errors import StorageError, UsageError

_ADVICE = {
    errno.ENOSPC: "Free some space and run it again; a run goes on with --resume.",
    errno.EDQUOT: "The quota is used up; free some space and run it again; a run goes on with --resume.",
    errno.EFBIG: "A file size limit (ulimit -f) was reached; raise it and run it again; a run goes on with --resume.",
    errno.EACCES: "Check the permissions.",
    errno.EPERM: "Check the permissions.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "Links lead in a circle.",
    errno.EROFS: "The file system is read-only; choose another folder with --out.",
    errno.EMFILE: "Raise the limit on open files (ulimit -n) and run it again; a run goes on with --resume.",
    errno.ENFILE: "The whole machine has too many open files; close some programs and run it again; a run goes on with "
    "--resume.",
    errno.EIO: "The disk fails; save what is on it, and go on with --resume on a copy of the folder.",
    errno.ENOENT: "Was the folder moved or removed?",
}
_OF_NAMES = {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP}
_OF_THE_MACHINE = _ADVICE.keys() - {errno.ENOENT}
_MARK = ".tmp"


@contextmanager
def storage_errors(path: Path, doing: str, num_bytes: int = 0) -> Iterator[None]:
    """Turns any OSError inside into a StorageError that names the path, the bytes needed and those free.

    Args:
        path: the file or folder being worked on.
        doing: the verb of the sentence: `write`, `read`, `create`.
        num_bytes: how many are to be written; 0 where that is not known.

    Raises:
        StorageError: for every OSError raised inside.
    """
    try:
        yield
    except OSError as error:
        raise _failure(path, doing, error, num_bytes) from error


@contextmanager
def machine_errors() -> Iterator[None]:
    """Turns what only a machine can cause, wherever it strikes, into a StorageError; it is no bug of ours.

    Raises:
        StorageError: for a full or failing disk, too many open files, or a path that may not be used.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        if not isinstance(error.filename, str | bytes):
            raise StorageError(f"cannot read or write: {error.strerror}. {_ADVICE[error.errno]}") from error
        raise _failure(Path(os.fsdecode(error.filename)), "use", error) from error


def is_shortage(error: Exception) -> bool:
    """Whether a file could not be opened because too many others are: no fault of the file."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def _failure(path: Path, doing: str, error: OSError, num_bytes: int = 0) -> StorageError:
    reason, advice = error.strerror or str(error), _ADVICE.get(error.errno or 0, "")
    facts = [f"needs {told_size(num_bytes)}"] if num_bytes else []
    if error.errno not in _OF_NAMES:
        facts += [f"{told_size(free)} free" for free in _free_bytes(path)]
    told = f" ({', '.join(facts)})" if facts else ""
    return StorageError(f"cannot {doing} {path}: {reason}{told}. {advice}".rstrip())


def _free_bytes(path: Path) -> list[int]:
    """Of the file system that `path` is or would be on; empty where nothing can be asked."""
    for folder in (path, *path.parents):
        with suppress(OSError):
            return [shutil.disk_usage(folder).free]
    return []


def told_size(num_bytes: int) -> str:
    """`3.2 GB`, `512 bytes`: a number of bytes in a sentence."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:,.1f} {name}"
    return f"{num_bytes} bytes"


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes `path` when the block ends, whole and synced, and is gone when the block raises.

    The bytes go to a file beside `path` (never through TMPDIR, which may be another file system), are synced,
    then renamed over `path`; the folder is synced last.

    Raises:
        OSError: disk full, no permission, I/O error; `path` is untouched and nothing is left beside it.
    """
    beside = _beside(path)
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except BaseException:
        _remove(beside)
        raise


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replaces `path` by what `write` writes, so that a crash leaves the old file or the new one, never half.

    Args:
        path: final name; its folder must exist.
        write: gets a file opened for binary writing.

    Raises:
        StorageError: disk full, no permission, I/O error; `path` is untouched and nothing is left beside it.
    """
    num_bytes = 0
    try:
        with durable_file(path) as file:
            sink = _Sink(file)
            write(cast(BinaryIO, sink))
            num_bytes = sink.num_bytes
            sink.check()
    except OSError as error:
        raise _failure(path, "write", error, num_bytes) from error


def check_replaceable(path: Path, flag: str, what: str, is_ours: Callable[[bytes], bool], example: str) -> None:
    """Checks that a file of ours may be written there: one of its kind is replaced, anything else was not made to be.

    Args:
        path: the file to write.
        flag: that named it, for messages.
        what: it must be, to be replaced: `a page of ptft`.
        is_ours: whether a file that begins with these bytes, its first million, is that.
        example: name of such a file.

    Raises:
        UsageError: it is a folder, lies in none, or is something else.
        StorageError: it cannot be read.
    """
    with storage_errors(path, "read"):
        if path.is_dir():
            raise UsageError(f"{flag} {path}: a folder. Name a file, for example {path / example}.")
        if not path.parent.is_dir():
            raise UsageError(f"{flag} {path}: there is no folder {path.parent}.")
        if not path.exists():
            return
        if not path.is_file():
            raise UsageError(f"{flag} {path}: not a regular file.")
        with path.open("rb") as file:
            start = file.read(1 << 20)
    if not is_ours(start):
        raise UsageError(f"{path} is there and is not {what}. Choose another with {flag}.")


class _Sink(io.RawIOBase):
    """Passes bytes on until the first OSError, keeps that and only counts from there: so the size needed is known.

    It also brings back the OSError of a full disk, which torch.save hides behind an error of its own.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None
        self.num_bytes = 0

    def write(self, data: Any) -> int:
        self.num_bytes += len(data)
        if self._error is None:
            try:
                return self._file.write(data)
            except OSError as error:
                self._error = error
        return len(data)

    def check(self) -> None:
        """Raises the OSError that was kept."""
        if self._error is not None:
            raise self._error


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{_MARK}")


def _remove(beside: Path) -> None:
    """Best effort: what failed before is what matters."""
    with suppress(OSError):
        beside.unlink()


def is_unfinished(path: Path) -> bool:
    """Whether this file was being written by `write_durably` or `link_durably` when its process died."""
    return path.name.startswith(".") and path.name.endswith(_MARK)


def link_durably(existing: Path, path: Path) -> None:
    """Makes `path` name the same bytes as `existing`: a hard link, or a copy where links are not supported.

    Raises:
        StorageError: as `write_durably`.
    """
    beside = _beside(path)
    try:
        os.link(existing, beside)
    except OSError:
        write_durably(path, lambda file: _copy(existing, file))
        return
    with storage_errors(path, "write"):
        try:
            beside.replace(path)
        finally:
            _remove(beside)  # also where both were one file already: then a rename does nothing
        sync_folder(path.parent)


def _copy(existing: Path, file: BinaryIO) -> None:
    with existing.open("rb") as source:
        shutil.copyfileobj(source, file)


def write_text_durably(path: Path, text: str) -> None:
    """`write_durably` for UTF-8 text."""
    write_durably(path, lambda file: file.write(text.encode()))


def sync_folder(folder: Path) -> None:
    """Makes renames and removals inside `folder` survive a power cut."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync folders
            raise


def sync_file(path: Path) -> None:
    """Makes what was written to `path` so far, through whichever descriptor, survive a power cut.

    Raises:
        StorageError: it is gone, or the disk fails.
    """
    with storage_errors(path, "write"):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
