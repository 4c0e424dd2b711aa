"""Decoded images as uint8 batches: resident in memory where they fit, else decoded when asked for.

Every kind answers `take(indices)`; nothing above knows which one it has. `ptft.data.stored` has another.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ptft.data.decode import BadImageError, decode
from ptft.data.records import Encoded, Record
from ptft.data.sources.base import MIN_IMAGE_SIZE, DataConfig
from ptft.errors import DataError
from ptft.runtime import available_memory_bytes, sent
from ptft.storage import is_shortage

# Leaves room for the model, activations and the page cache of everybody else.
_RESIDENT_SHARE = 0.4
_NUM_THREADS = 8
MAX_IMAGE_SIZE = 4096
"""Largest side in pixels of the images a model is given; more would only be a way to ask for memory."""
# Records a thread takes at once, and how many such portions are under way: small images cost less than a task switch.
_PORTION = 64
_UNDER_WAY = 32
# Seconds of a record below which most of its work holds the interpreter's lock, so that threads only take it from one
# another and from whoever keeps the results: JPEG files of 32 px were decoded at 8,700 images/s in one thread and 6,100
# in eight (`scripts/bench/decode.py`, 2 cores); photographs are faster in threads.
_QUICK, _WARMUP = 3e-4, 8
_CHANNELS_SAMPLE = 100
_SMALL = 32


class Images(Protocol):
    """N images of one size."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def take(self, indices: Tensor) -> Tensor:
        """Images uint8 (B, C, S, S) at `indices` int64 (B,)."""
        ...

    def slice(self, start: int, stop: int) -> "Images":
        """The images from start to stop, sharing their memory."""
        ...


@dataclass(frozen=True)
class ResidentImages:
    """All images in one tensor.

    Attributes:
        pixels: uint8 (N, C, S, S), on any device; what is taken of them is there too.
    """

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: Tensor) -> Tensor:
        return self.pixels.index_select(0, sent(indices, self.pixels.device))

    def slice(self, start: int, stop: int) -> "ResidentImages":
        return ResidentImages(self.pixels[start:stop])


@dataclass(frozen=True)
class DecodedImages:
    """Images decoded by threads each time they are asked for: for sets larger than memory."""

    records: Sequence[Record]
    shape: tuple[int, int, int]
    max_pixels: int
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_NUM_THREADS))

    def __len__(self) -> int:
        return len(self.records)

    def take(self, indices: Tensor) -> Tensor:
        channels, size, _ = self.shape
        chosen = [self.records[index] for index in indices.tolist()]
        store = _Store(len(chosen), size, channels)
        for array in self.threads.map(lambda record: _decode(record, size, channels, self.max_pixels), chosen):
            store.add(array)
        return store.tensor()

    def slice(self, start: int, stop: int) -> "DecodedImages":
        return replace(self, records=self.records[start:stop])


@dataclass(frozen=True)
class ChosenImages:
    """Some of the images, in any order; the pixels stay where they are.

    Attributes:
        images: of which some are chosen.
        rows: int64 (N,).
    """

    images: Images
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Tensor) -> Tensor:
        return self.images.take(self.rows[indices])

    def slice(self, start: int, stop: int) -> "ChosenImages":
        return replace(self, rows=self.rows[start:stop])


def decodes_when_asked(images: Images) -> bool:
    """Whether images are read and decoded each time they are taken."""
    while isinstance(images, ChosenImages):
        images = images.images
    return isinstance(images, DecodedImages)


@dataclass(frozen=True)
class Loaded:
    """What decoding gave.

    Attributes:
        records: those that could be read, in order.
        images: theirs.
        digests: BLAKE2b of each one's content: of the file's bytes (of a shard, when it was scanned), or of the pixels
            where there is no file.
        bad: one line for each image that could not be read.
    """

    records: Sequence[Record]
    images: Images
    digests: Sequence[bytes]
    bad: Sequence[str]


def load_images(
    records: Sequence[Record],
    config: DataConfig,
    *,
    size: int | None,
    channels: int | None,
    check_stop: Callable[[], None],
) -> Loaded:
    """Decodes images in threads: every one once, whether or not they then stay in memory.

    Args:
        records: the images, in the order of the result.
        config: max_pixels, on_bad_image, max_bad_images.
        size: side of the square images in pixels; None keeps the images' own, on which they must agree.
        channels: 1 or 3; None means 3 if any image has colour, else 1.
        check_stop: called between images, by the threads that decode them; raises when a signal asked to stop.

    Raises:
        DataError: more unreadable images than the config allows, or sizes that differ while `size` is None.
    """
    kept: list[Record] = []
    digests: list[bytes] = []
    bad: list[str] = []
    store: _Store | None = None
    for record, result in decode_all(records, size, channels, config.max_pixels, check_stop):
        if isinstance(result, DataError):
            bad.append(str(result))
            judge_bad(result, len(bad), config)
            continue
        digest, array = result
        if store is None:
            check_square(record, array.shape)
            store = _Store(len(records), array.shape[0], channels, _fits(len(records), array.shape[0], channels))
        elif array.shape[0] != store.size or array.shape[1] != store.size:
            raise different_sizes(kept[0], store.size, record, array.shape)
        store.add(array)
        kept.append(record)
        digests.append(digest)
    if store is None:
        return Loaded(
            [], ResidentImages(torch.empty(0, channels or 1, size or 1, size or 1, dtype=torch.uint8)), [], bad
        )
    resident = store.tensor() if store.keeps else None
    shape = (store.channels, store.size, store.size)
    images = DecodedImages(kept, shape, config.max_pixels) if resident is None else ResidentImages(resident)
    return Loaded(kept, images, digests, bad)


def channels_of(records: Sequence[Record], max_pixels: int) -> int:
    """3 if any image of a sample, spread evenly over the records, has colour, else 1.

    Raises:
        DataError: an image of the sample cannot be read.
    """
    sample = [records[row] for row in range(0, len(records), -(-len(records) // _CHANNELS_SAMPLE))]
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        arrays = threads.map(lambda record: _decode(record, _SMALL, None, max_pixels), sample)
        return 3 if any(array.ndim == 3 for array in arrays) else 1


class _Store:
    """Room for up to N images of one size, made once; it gains colour with the first coloured image.

    Args:
        count: N.
        size: S.
        channels: 1 or 3, or None for as many as the images have.
        keeps: whether to keep them; else only their channels are noted.
    """

    def __init__(self, count: int, size: int, channels: int | None, keeps: bool = True) -> None:
        self.size = size
        self.channels = channels or 1
        self._grows = channels is None
        self.keeps = keeps
        self._pixels = np.empty((count if keeps else 0, self.channels, size, size), np.uint8)
        self._count = 0

    def add(self, array: np.ndarray) -> None:
        """Adds one image, uint8 (S, S) or (S, S, 3)."""
        if self._grows and array.ndim == 3 and self.channels == 1:
            self.channels = 3
            grey = self._pixels[: self._count]
            self._pixels = np.empty((len(self._pixels), 3, self.size, self.size), np.uint8)
            self._pixels[: self._count] = grey
        if self.keeps:
            self._pixels[self._count] = array.transpose(2, 0, 1) if array.ndim == 3 else array
            self._count += 1

    def tensor(self) -> Tensor:
        """The images added, uint8 (n, C, S, S)."""
        return torch.from_numpy(self._pixels[: self._count])


def _fits(count: int, size: int, channels: int | None) -> bool:
    return count * (channels or 3) * size * size < _RESIDENT_SHARE * available_memory_bytes()


Result = tuple[bytes, np.ndarray] | DataError
"""The digest and the pixels of an image, uint8 (H, W) or (H, W, 3); or why it cannot be read."""


def decode_all(
    records: Sequence[Record],
    size: int | None,
    channels: int | None,
    max_pixels: int,
    check_stop: Callable[[], None],
) -> Iterator[tuple[Record, Result]]:
    """Digest and pixels of each record in order, or its error; arguments as for `load_images`."""
    results = in_threads(records, lambda record: _attempt(record, size, channels, max_pixels), check_stop)
    return zip(records, results, strict=True)


_T = TypeVar("_T")


def in_threads(records: Sequence[Record], work: Callable[[Record], _T], check_stop: Callable[[], None]) -> Iterator[_T]:
    """What `work` gives for each record, in order.

    Args:
        records: to work on, in portions, by several threads; by the calling one where the first portion was quick.
        work: called by any of them.
        check_stop: called before each record, by the same thread; raises when a signal asked to stop.
    """

    def work_on(portion: Sequence[Record]) -> list[_T]:
        results = []
        for record in portion:
            check_stop()
            results.append(work(record))
        return results

    yield from work_on(records[:_WARMUP])  # Pillow loads what it needs for the first ones
    started = time.perf_counter()
    first = work_on(records[_WARMUP:_PORTION])
    is_quick = time.perf_counter() - started < _QUICK * len(first)
    yield from first
    portions = [records[start : start + _PORTION] for start in range(_PORTION, len(records), _PORTION)]
    if is_quick:
        for portion in portions:
            yield from work_on(portion)
        return
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        # Bounded: results wait in memory until they are taken.
        for start in range(0, len(portions), _UNDER_WAY):
            for results in threads.map(work_on, portions[start : start + _UNDER_WAY]):
                yield from results


def _attempt(record: Record, size: int | None, channels: int | None, max_pixels: int) -> Result:
    try:
        array = _decode(record, size, channels, max_pixels)
        if isinstance(record.image, Encoded):
            return record.image.shards.digest(record.image.row), array
        if isinstance(record.image, Path):
            return digest_of(record.image), array
        return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest(), array
    except DataError as error:
        return error
    except OSError as error:  # gone since it was decoded
        if is_shortage(error):
            raise
        return DataError(f"{record.name}: cannot be read: {(error.strerror or str(error)).lower()}.")


def digest_of(file: Path) -> bytes:
    """BLAKE2b of a file's bytes, 16 bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).digest()


def _decode(record: Record, size: int | None, channels: int | None, max_pixels: int) -> np.ndarray:
    try:
        return decode(record.image, size=size, channels=channels, max_pixels=max_pixels)
    except BadImageError as error:
        raise DataError(f"{record.name}: cannot be read: {error}.") from error


def judge_bad(error: DataError, count: int, config: DataConfig) -> None:
    """Raises the error of an image that cannot be read, unless the config allows as many as `count`."""
    if config.on_bad_image == "error":
        raise DataError(
            f"{error} To leave such images out: --set data.on_bad_image=skip, or the same in the config."
        ) from error
    if count > config.max_bad_images:
        raise DataError(
            f"{count} images cannot be read, data.max_bad_images allows {config.max_bad_images}. The last: {error}"
        ) from error


def check_square(record: Record, shape: Sequence[int]) -> None:
    """Raises DataError unless the first image, of shape (H, W) or (H, W, 3), can set the size of all."""
    height, width = shape[:2]
    if max(height, width) > MAX_IMAGE_SIZE:
        raise DataError(
            f"{record.name} is {width}x{height} pixels; a model takes at most {MAX_IMAGE_SIZE}. Set data.image_size."
        )
    if height != width:
        raise DataError(
            f"{record.name} is {width}x{height} pixels, not square. Set data.image_size, for example "
            f"{max(MIN_IMAGE_SIZE, min(height, width))}: the shorter side is resized to it and the centre kept."
        )


def different_sizes(first: Record, size: int, second: Record, shape: Sequence[int]) -> DataError:
    """The error for a second image, of another shape (H, W) or (H, W, 3) than the first."""
    return DataError(
        f"images differ in size: {first.name} is {size}x{size}, {second.name} is "
        f"{shape[1]}x{shape[0]}. Set data.image_size, for example {max(MIN_IMAGE_SIZE, size)}."
    )
