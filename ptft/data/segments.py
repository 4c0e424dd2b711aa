"""Files of decoded images: each written once, whole or not at all, then mapped into memory and never changed.

::

    pixels uint8 (N, C, S, S) | keys (N, 16) | digests (N, 16) | notes, JSON | trailer

A key says which file, in which state, an image was decoded from; a digest is that of the file's bytes. The trailer has
the sizes, and a digest of all but the pixels; theirs is in the notes.
"""

import fcntl
import hashlib
import json
import mmap
import os
import re
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ptft.storage import durable_file

SUFFIX = ".images"
NUM_DIGEST_BYTES = 16
"""Of a key, and of the digest of an image's file."""

_MAGIC = b"ptft-im1"
_NAME = re.compile(r"[0-9]{20}-[0-9a-f]{6}" + re.escape(SUFFIX))
_TRAILER = struct.Struct("<8sQIIQ16s")
_NUM_PER_IMAGE = 2 * NUM_DIGEST_BYTES


class DamagedSegmentError(ValueError):
    """A file of images that is not what was written; the message is the reason, without the path."""


def new_segment_path(folder: Path) -> Path:
    """A name of its own, that sorts after all names given before."""
    return folder / f"{time.time_ns():020d}-{os.urandom(3).hex()}{SUFFIX}"


def is_segment(path: Path) -> bool:
    """Whether a file is called as `new_segment_path` calls them."""
    return _NAME.fullmatch(path.name) is not None


@dataclass
class SegmentWriter:
    """Takes the images of a segment one by one.

    Attributes:
        file: what is written to.
        channels: C, 1 or 3.
        size: S.
    """

    file: BinaryIO
    channels: int
    size: int
    _keys: list[bytes] = field(default_factory=list)
    _digests: list[bytes] = field(default_factory=list)
    _pixels: "hashlib.blake2b" = field(default_factory=lambda: hashlib.blake2b(digest_size=NUM_DIGEST_BYTES))

    def add(self, key: bytes, digest: bytes, array: np.ndarray) -> int:
        """Adds an image, uint8 (S, S) or (S, S, 3), and returns its row."""
        pixels = (array if array.ndim == 2 else array.transpose(2, 0, 1)).tobytes()
        self._pixels.update(pixels)
        self.file.write(pixels)
        self._keys.append(key)
        self._digests.append(digest)
        return len(self._keys) - 1

    def finish(self, notes: dict[str, Any]) -> None:
        """Writes all that comes after the pixels."""
        told = json.dumps(notes | {"pixels": self._pixels.hexdigest()}).encode()
        index = b"".join((*self._keys, *self._digests, told))
        sizes = (_MAGIC, len(self._keys), self.channels, self.size, len(told))
        self.file.write(index)
        self.file.write(_TRAILER.pack(*sizes, _digest(repr(sizes).encode(), index)))


@contextmanager
def segment_writer(path: Path, channels: int, size: int, notes: dict[str, Any]) -> Iterator[SegmentWriter]:
    """A segment that is there, synced, when the block ends, and is not when the block raises.

    Args:
        path: see `new_segment_path`.
        channels: C, 1 or 3.
        size: S.
        notes: what `Segment.notes` shall say.

    Raises:
        OSError: it cannot be written.
    """
    with durable_file(path) as file:
        writer = SegmentWriter(file, channels, size)
        yield writer
        writer.finish(notes)


@dataclass(frozen=True)
class Segment:
    """A segment, mapped; the kernel marks it as in use, for `remove_unused`, as long as its pixels are referred to.

    Attributes:
        path: of the file.
        pixels: uint8 (N, C, S, S), read-only.
        keys: N.
        digests: N.
        notes: `home` (the folder the images came from) and `is_own_size` (whether S is what the images had).
        mapping: that all of it is in.
    """

    path: Path
    pixels: np.ndarray
    keys: Sequence[bytes]
    digests: Sequence[bytes]
    notes: dict[str, Any]
    mapping: mmap.mmap

    @classmethod
    def open(cls, path: Path) -> "Segment":
        """Maps a segment and checks its sizes and everything but its pixels.

        Raises:
            DamagedSegmentError: it is not what was written.
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_SH)
            if os.fstat(file.fileno()).st_size < _TRAILER.size:
                raise DamagedSegmentError("too short")
            # The mapping keeps the file, and so its lock, open.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, count, channels, size, num_notes, digest = _TRAILER.unpack(content[-_TRAILER.size :])
        num_pixels, num_index = count * channels * size * size, count * _NUM_PER_IMAGE + num_notes
        if magic != _MAGIC or num_pixels + num_index + _TRAILER.size != len(content):
            raise DamagedSegmentError("its sizes are wrong")
        index = content[num_pixels : num_pixels + num_index]
        if _digest(repr((magic, count, channels, size, num_notes)).encode(), index) != digest:
            raise DamagedSegmentError("its index was changed")
        keys = [index[at : at + NUM_DIGEST_BYTES] for at in range(0, count * NUM_DIGEST_BYTES, NUM_DIGEST_BYTES)]
        rest = index[count * NUM_DIGEST_BYTES :]
        digests = [rest[at : at + NUM_DIGEST_BYTES] for at in range(0, count * NUM_DIGEST_BYTES, NUM_DIGEST_BYTES)]
        pixels = np.frombuffer(content, np.uint8, num_pixels).reshape(count, channels, size, size)
        return cls(path, pixels, keys, digests, json.loads(rest[count * NUM_DIGEST_BYTES :]), content)

    @property
    def num_bytes(self) -> int:
        """Of the file, but for its notes and trailer."""
        return self.pixels.nbytes + len(self.keys) * _NUM_PER_IMAGE

    def has_its_pixels(self) -> bool:
        """Whether every pixel is what was written."""
        found = hashlib.blake2b(self.pixels.reshape(-1).data, digest_size=NUM_DIGEST_BYTES)
        return bool(found.hexdigest() == self.notes["pixels"])

    def read_ahead(self) -> None:
        """Asks the kernel to bring all of it into memory, in the order of the disk and meanwhile."""
        if hasattr(mmap, "MADV_WILLNEED"):
            self.mapping.madvise(mmap.MADV_WILLNEED)

    def mark_used(self) -> None:
        """Makes it the most recently used one."""
        with suppress(OSError):  # somebody else's file, or a disk that is read only
            os.utime(self.path)


def remove_unused(path: Path) -> bool:
    """Removes a file of the cache unless a process has it mapped; whether it is gone."""
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _digest(*parts: bytes) -> bytes:
    found = hashlib.blake2b(digest_size=NUM_DIGEST_BYTES)
    for part in parts:
        found.update(part)
    return found.digest()
