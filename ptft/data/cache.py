"""The cache folder: decoded images and measured numbers that later runs need not make again.

::

    images/SHELF/*.images   of one source, decoded one way; see `ptft.data.segments`
    measured/*              what was measured, one small file each
    shards/INDEX/*          where images lie in larger files; see `ptft.data.shards.index`

All of it can be thrown away at any time. Only what is called as ptft calls its files counts as the cache's own: the
folder may be one that holds other things, which are neither counted nor removed. Whatever goes wrong here is said in a
line and never ends a run.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ptft.data.decode import decoder
from ptft.data.records import Record
from ptft.data.segments import NUM_DIGEST_BYTES, is_segment, remove_unused
from ptft.data.shards import index
from ptft.data.shelf import CacheError, Shelf, listed, make_folder, sweep
from ptft.storage import durable_file, is_unfinished, told_size

_SHELF = re.compile(r"[0-9a-f]{20}")
_KEY = re.compile(r"[0-9a-f]{32}")
"""Of a measurement, and of an index of shards."""


@dataclass(frozen=True)
class CacheOptions:
    """What the command line says about the cache.

    Attributes:
        folder: where it is; None for the usual place.
        is_used: whether to use one at all.
        verify: whether to compare every image file with what was decoded from it, byte by byte.
    """

    folder: Path | None = None
    is_used: bool = True
    verify: bool = False

    def open(self, say: Callable[[str], None]) -> "Cache | None":
        """The cache; None where none is to be used.

        Args:
            say: told what becomes of it.

        Raises:
            UsageError: PTFT_CACHE_GB is no number.
        """
        from ptft.runtime import cache_folder, cache_limit_bytes

        folder = cache_folder(self.folder) if self.is_used else None
        return Cache(folder, cache_limit_bytes(), self.verify, say) if folder else None


USUAL_CACHE = CacheOptions()
"""Where the command line says nothing."""


@dataclass(frozen=True)
class Cache:
    """A cache folder.

    Attributes:
        folder: it need not be there yet.
        limit_bytes: it never grows beyond; None for half of what is free or its own already.
        verify: see `CacheOptions`.
        say: told what becomes of it.
    """

    folder: Path
    limit_bytes: int | None = None
    verify: bool = False
    say: Callable[[str], None] = lambda _: None

    def shelf(self, home: Path, max_pixels: int, channels: int | None) -> Shelf:
        """The shelf of a source.

        Args:
            home: the folder that the names of its images are relative to.
            max_pixels: as for `decode`.
            channels: 1 for images turned grey; else they keep what they have.
        """
        place = os.path.realpath(home)
        told = repr((place, max_pixels, channels == 1, decoder()))
        name = hashlib.blake2b(told.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
        return Shelf(self.folder / "images" / name, place, self.say)

    def make_room(self, num_bytes: int) -> None:
        """Removes what was used least recently and is not in use, until so much more fits.

        Raises:
            CacheError: it never will.
        """
        self._tidy(is_final=False)
        files = sorted(self.files(), key=lambda file: file.used)
        taken = sum(file.num_bytes for file in files)
        limit = self._limit(taken)
        if num_bytes <= limit:
            for file in files:
                if taken + num_bytes <= limit:
                    return
                taken -= file.num_bytes if remove_unused(file.path) else 0
        if taken + num_bytes > limit:
            raise CacheError(
                f"{told_size(num_bytes)} of decoded images do not fit into {self.folder}, which may hold "
                f"{told_size(limit)} (PTFT_CACHE_GB)" + (f", {told_size(taken)} of it in use" if taken else "")
            )

    def _tidy(self, is_final: bool) -> None:
        """Removes what killed processes left in shelves that nobody adds to now; and the empty ones, at last."""
        for folder in _called(_SHELF, self.folder.glob("images/*")):
            with suppress(OSError), (folder / ".lock").open("a+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                sweep(folder)
                if is_final and not listed(folder):
                    (folder / ".lock").unlink()
                    folder.rmdir()

    def _limit(self, taken: int) -> int:
        if self.limit_bytes is not None:
            return self.limit_bytes
        try:
            return (taken + shutil.disk_usage(self.folder).free) // 2
        except OSError as error:
            raise CacheError(f"{self.folder} cannot be read: {error.strerror}") from error

    def files(self) -> list["CachedFile"]:
        """Everything that is kept, in no order."""
        found = []
        for path in (*self._segments(), *_called(_KEY, self.folder.glob("measured/*")), *self._indexes()):
            with suppress(OSError):  # removed meanwhile
                status = path.stat()
                found.append(CachedFile(path, status.st_size, status.st_mtime))
        return found

    def _segments(self) -> Iterator[Path]:
        shelves = _called(_SHELF, self.folder.glob("images/*"))
        return (path for shelf in shelves for path in shelf.glob("*") if is_segment(path))

    def _indexes(self) -> Iterator[Path]:
        folders = _called(_KEY, self.folder.glob("shards/*"))
        return (path for folder in folders for path in folder.glob("*") if _final_name(path) in index.FILES)

    def clear(self, keep_bytes: int = 0) -> tuple[int, int]:
        """Removes what was used least recently, until no more than `keep_bytes` stay or the rest is in use.

        Returns:
            Bytes removed, and bytes that stay.
        """
        stays = before = sum(file.num_bytes for file in self.files())
        for file in sorted(self.files(), key=lambda file: file.used):
            if stays > keep_bytes and remove_unused(file.path):
                stays -= file.num_bytes
        self._tidy(is_final=True)
        for folder in _called(_KEY, self.folder.glob("shards/*")):
            with suppress(OSError):  # not empty
                folder.rmdir()
        return before - stays, stays

    def recall(self, what: str) -> bytes | None:
        """What `remember` was told about something; None where it was told nothing, or it was damaged since."""
        path = self._measured(what)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, value = content[:NUM_DIGEST_BYTES], content[NUM_DIGEST_BYTES:]
        if _digest(what, value) != digest:
            return None
        with suppress(OSError):
            os.utime(path)
        return value

    def remember(self, what: str, value: bytes) -> None:
        """Keeps a value for later runs, if it can be kept.

        Args:
            what: everything that the value depends on.
            value: small.
        """
        path = self._measured(what)
        with suppress(OSError):
            make_folder(self.folder)
            path.parent.mkdir(exist_ok=True)
            with durable_file(path) as file:
                file.write(_digest(what, value) + value)

    def _measured(self, what: str) -> Path:
        return self.folder / "measured" / _digest(what, b"").hex()


def remembered(cache: Cache | None, what: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives, from an earlier time where the cache has it.

    Args:
        cache: None to make it anew.
        what: everything that it depends on.
        make: called where it is not known.
    """
    value = None if cache is None else cache.recall(what)
    if value is None:
        value = make()
        if cache is not None:
            cache.remember(what, value)
    return value


@dataclass(frozen=True)
class CachedFile:
    """A file of the cache.

    Attributes:
        path: of it.
        num_bytes: that it has.
        used: when it was used last, in seconds since 1970.
    """

    path: Path
    num_bytes: int
    used: float


def key_of(record: Record) -> bytes:
    """What an image file is known by: its name in its source, its size, and when it was last written, in ns.

    A file that is not there has a key that nothing else has.
    """
    try:
        assert isinstance(record.image, Path)
        status = record.image.stat()
    except OSError:
        return os.urandom(NUM_DIGEST_BYTES)
    return _digest(f"{record.name}\0{status.st_size}\0{status.st_mtime_ns}", b"")


def _digest(what: str, value: bytes) -> bytes:
    told = what.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(told + b"\0" + value, digest_size=NUM_DIGEST_BYTES).digest()


def _called(pattern: re.Pattern[str], paths: Iterable[Path]) -> Iterator[Path]:
    """Those whose name is such a one, or was to be when a process died that wrote them."""
    return (path for path in paths if pattern.fullmatch(_final_name(path)))


def _final_name(path: Path) -> str:
    return path.name[1:].rsplit(".", 2)[0] if is_unfinished(path) else path.name
