"""Decoded images as uint8 batches: resident in memory where they fit, else decoded when asked for.

Both kinds answer `take(indices)`; nothing above this module knows which one it has.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ptft.data.decode import BadImageError, decode
from ptft.data.records import Record
from ptft.data.sources.base import DataConfig
from ptft.errors import DataError
from ptft.runtime import available_memory_bytes

# Leaves room for the model, activations and the page cache of everybody else.
_RESIDENT_SHARE = 0.4
_NUM_THREADS = 8
_WAITING = 1024

_Result = TypeVar("_Result")


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
        pixels: uint8 (N, C, S, S), on the CPU or, where it fits, on the GPU.
    """

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: Tensor) -> Tensor:
        return self.pixels.index_select(0, indices.to(self.pixels.device))

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
        arrays = self.threads.map(lambda record: _decode(record, size, channels, self.max_pixels), chosen)
        return _stack(list(arrays))

    def slice(self, start: int, stop: int) -> "DecodedImages":
        return replace(self, records=self.records[start:stop])


@dataclass
class BadImages:
    """What to do about images that cannot be read, and those met so far."""

    policy: str
    maximum: int
    met: list[str] = field(default_factory=list)

    def report(self, error: DataError) -> None:
        """Counts one bad image.

        Raises:
            DataError: the policy is `error`, or more than the maximum were met.
        """
        if self.policy == "error":
            raise DataError(f"{error} To leave such images out: data.on_bad_image: skip.") from error
        self.met.append(str(error))
        if len(self.met) > self.maximum:
            raise DataError(
                f"{len(self.met)} images cannot be read, data.max_bad_images allows {self.maximum}. The last: {error}"
            ) from error


def load_images(
    records: Sequence[Record],
    config: DataConfig,
    *,
    size: int | None,
    channels: int | None,
    check_stop: Callable[[], None],
) -> tuple[list[Record], Images, BadImages]:
    """Decodes images in threads, once.

    Args:
        records: the images, in the order of the result.
        config: max_pixels, on_bad_image, max_bad_images.
        size: side of the square images in pixels; None keeps the images' own, on which they must agree.
        channels: 1 or 3; None means 3 if any image has colour, else 1.
        check_stop: called between images; raises when a signal asked to stop.

    Returns:
        The records that could be read, their images in the same order, and the bad ones.

    Raises:
        DataError: unreadable images (see BadImages), or sizes that differ while `size` is None.
    """
    bad = BadImages(config.on_bad_image, config.max_bad_images)
    if size is not None and not _fits(len(records), size, channels or 3):
        return list(records), DecodedImages(records, (channels or 3, size, size), config.max_pixels), bad
    kept: list[Record] = []
    arrays: list[np.ndarray] = []
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        for record, result in _in_order(threads, records, lambda r: _attempt(r, size, channels, config.max_pixels)):
            check_stop()
            if isinstance(result, DataError):
                bad.report(result)
                continue
            if size is None and arrays and result.shape[:2] != arrays[0].shape[:2]:
                raise _different_sizes(kept[0], arrays[0], record, result)
            kept.append(record)
            arrays.append(result)
    if not arrays:
        raise DataError("no image could be read.")
    if size is None and arrays[0].shape[0] != arrays[0].shape[1]:
        height, width = arrays[0].shape[:2]
        raise DataError(
            f"images are {width}x{height} pixels, not square. Set data.image_size, for example {min(height, width)}: "
            "the shorter side is resized to it and the centre kept."
        )
    return kept, ResidentImages(_stack(arrays)), bad


def _fits(count: int, size: int, channels: int) -> bool:
    return count * size * size * channels < _RESIDENT_SHARE * available_memory_bytes()


def _in_order(
    threads: ThreadPoolExecutor, records: Sequence[Record], work: Callable[[Record], _Result]
) -> Iterator[tuple[Record, _Result]]:
    """`threads.map`, but with a bounded number of results waiting."""
    for start in range(0, len(records), _WAITING):
        chunk = records[start : start + _WAITING]
        yield from zip(chunk, threads.map(work, chunk), strict=True)


def _attempt(record: Record, size: int | None, channels: int | None, max_pixels: int) -> np.ndarray | DataError:
    try:
        return _decode(record, size, channels, max_pixels)
    except DataError as error:
        return error


def _decode(record: Record, size: int | None, channels: int | None, max_pixels: int) -> np.ndarray:
    try:
        return decode(record.image, size=size, channels=channels, max_pixels=max_pixels)
    except BadImageError as error:
        raise DataError(f"{record.name}: cannot be read: {error}.") from error


def _different_sizes(first: Record, a: np.ndarray, second: Record, b: np.ndarray) -> DataError:
    return DataError(
        f"images differ in size: {first.name} is {a.shape[1]}x{a.shape[0]}, {second.name} is "
        f"{b.shape[1]}x{b.shape[0]}. Set data.image_size, for example 96."
    )


def _stack(arrays: list[np.ndarray]) -> Tensor:
    """Images (H, W) or (H, W, 3) as one tensor uint8 (N, C, H, W); grey ones gain colour beside coloured ones."""
    channels = 3 if any(array.ndim == 3 for array in arrays) else 1
    height, width = arrays[0].shape[:2]
    pixels = np.empty((len(arrays), channels, height, width), np.uint8)
    for place, array in zip(pixels, arrays, strict=True):
        place[:] = array.transpose(2, 0, 1) if array.ndim == 3 else array
    return torch.from_numpy(pixels)
