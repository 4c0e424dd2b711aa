"""Reads IDX files, the format of MNIST and its relatives, plain or gzip."""

import gzip
import math
import zlib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO

import numpy as np

from ptft.data.sources.listing import printable
from ptft.errors import DataError

IdxFile = Path | Traversable
"""A file on disk or inside an installed package."""

_UINT8 = 8
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_BYTES = 1 << 33


def read_pair(images: IdxFile, labels: IdxFile) -> tuple[np.ndarray, np.ndarray]:
    """Images and their labels.

    Returns:
        uint8 (N, H, W) and uint8 (N,).

    Raises:
        DataError: as `read_idx`, or the two files hold different numbers of items.
    """
    pixels, classes = read_idx(images, ndim=3), read_idx(labels, ndim=1)
    if len(pixels) != len(classes):
        raise DataError(
            f"{_named(images)} holds {len(pixels)} images but {_named(labels)} {len(classes)} labels. "
            "They belong to different sets."
        )
    return pixels, classes


def read_idx(file: IdxFile, *, ndim: int) -> np.ndarray:
    """One uint8 array of `ndim` dimensions.

    The file is two zero bytes, the element type (8 for uint8), the number of dimensions, one big-endian
    uint32 per dimension, then the elements in C order.

    Raises:
        DataError: not such a file, damaged gzip, or not as many bytes as the header says.
    """
    try:
        with file.open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not zipped:
                return _parse(raw, file, ndim)
            with gzip.GzipFile(fileobj=raw) as unzipped:
                return _parse(unzipped, file, ndim)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{_named(file)}: damaged gzip file: {error}. Fetch it again.") from error
    except OSError as error:
        raise DataError(f"{_named(file)}: cannot be read: {error.strerror}.") from error


def _parse(stream: IO[bytes] | gzip.GzipFile, file: IdxFile, ndim: int) -> np.ndarray:
    header = stream.read(4 + 4 * ndim)
    magic = bytes([0, 0, _UINT8, ndim])
    if header[:4] != magic or len(header) < 4 + 4 * ndim:
        raise DataError(
            f"{_named(file)}: not an IDX file of uint8 in {ndim} dimension{'s' if ndim > 1 else ''}: it "
            f"starts with {header[:4].hex(' ') or 'nothing'}, expected {magic.hex(' ')}."
        )
    shape = [int(length) for length in np.frombuffer(header, ">u4", offset=4)]
    expected = math.prod(shape)
    if expected > _MAX_BYTES:
        raise DataError(f"{_named(file)}: its header claims {expected:,} bytes; more than ptft reads ({_MAX_BYTES:,}).")
    content = stream.read(expected + 1)
    if len(content) != expected:
        amount = f"only {len(content):,}" if len(content) < expected else "more"
        raise DataError(f"{_named(file)}: its header says {expected:,} bytes but it holds {amount}. Fetch it again.")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _named(file: IdxFile) -> str:
    return printable(str(file))
