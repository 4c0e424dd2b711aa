"""Images through the cache: what was decoded before is mapped, the rest is decoded in threads and kept."""

import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from ptft.data.cache import Cache, key_of
from ptft.data.images import (
    Images,
    Loaded,
    Result,
    check_square,
    decode_all,
    different_sizes,
    digest_of,
    in_threads,
    judge_bad,
    load_images,
)
from ptft.data.records import Record
from ptft.data.segments import DamagedSegmentError, Segment, SegmentWriter, new_segment_path, segment_writer
from ptft.data.shelf import CacheError, Place, Shelf
from ptft.data.sources.base import DataConfig
from ptft.errors import DataError, PtftError
from ptft.runtime import available_memory_bytes
from ptft.storage import told_size

_MOST_SEGMENTS = 16


@dataclass(frozen=True)
class StoredImages:
    """Images in mapped files, which all processes of a machine share and the kernel takes from memory when it must.

    Attributes:
        files: the pixels of each, uint8 (n, C', S, S), C' being 1 or C.
        numbers: int64 (N,), which file an image is in.
        rows: int64 (N,), where there.
        channels: C.
    """

    files: Sequence[Tensor]
    numbers: Tensor
    rows: Tensor
    channels: int

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Tensor) -> Tensor:
        numbers, rows = self.numbers[indices], self.rows[indices]
        if len(self.files) == 1 and self.files[0].shape[1] == self.channels:
            return self.files[0].index_select(0, rows)
        taken = torch.empty(len(rows), self.channels, *self.files[0].shape[2:], dtype=torch.uint8)
        for number, pixels in enumerate(self.files):
            here = (numbers == number).nonzero().flatten()
            taken[here] = pixels.index_select(0, rows[here])  # a grey one is the same in each of three channels
        return taken

    def slice(self, start: int, stop: int) -> "StoredImages":
        return StoredImages(self.files, self.numbers[start:stop], self.rows[start:stop], self.channels)


def load(
    records: Sequence[Record],
    config: DataConfig,
    *,
    size: int | None,
    channels: int | None,
    check_stop: Callable[[], None],
    cache: Cache | None = None,
) -> Loaded:
    """What `load_images` gives, from the cache as far as it is there; what had to be decoded is kept for later.

    Only image files are kept: pixels that a source holds already need no decoding.

    Args:
        records, config, size, channels, check_stop: as for `load_images`.
        cache: None to do without.

    Raises:
        DataError: as `load_images`. What was decoded until then is kept.
    """
    home = config.home()
    if cache is None or home is None or not records or not all(isinstance(record.image, Path) for record in records):
        return load_images(records, config, size=size, channels=channels, check_stop=check_stop)
    shelf = cache.shelf(home, config.max_pixels, channels)
    try:
        return _Reader(records, config, size, channels, check_stop, cache, shelf).load()
    except CacheError as error:
        cache.say(f"cache: {error}; going on without it.")
        return load_images(records, config, size=size, channels=channels, check_stop=check_stop)


@dataclass
class _Reader:
    """One call of `load`: its arguments, and what it has found so far."""

    records: Sequence[Record]
    config: DataConfig
    size: int | None
    channels: int | None
    check_stop: Callable[[], None]
    cache: Cache
    shelf: Shelf
    kept: list[Record] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    num_decoded: int = 0

    def load(self) -> Loaded:
        start = time.monotonic()
        keys = [key_of(record) for record in self.records]
        places = self.shelf.find(keys, self.size)
        if self.cache.verify or None in places or _is_scattered(places):
            with self.shelf.lock(self.check_stop):
                places = self.shelf.find(keys, self.size)  # another run may have decoded them
                if self.cache.verify:
                    places = self._verified(keys)
                self._read(keys, places)
        else:
            self._read(keys, places)
        images = self._images()
        self._tell(time.monotonic() - start)
        return Loaded(self.kept, images, self.digests, self.bad)

    def _read(self, keys: Sequence[bytes], places: Sequence[Place | None]) -> None:
        """Goes through the records in order, as without a cache; decodes those that have no place."""
        missing = [record for record, place in zip(self.records, places, strict=True) if place is None]
        # Grey images are kept grey where three channels are wanted: a later run may want one.
        wanted = 1 if self.channels == 1 else None
        gathers = _is_scattered(places)
        decoded = decode_all(missing, self.size, wanted, self.config.max_pixels, self.check_stop)
        side = 0
        with _Builder(self.shelf, self.cache, self.size is None, len(self.records if gathers else missing)) as builder:
            for record, key, place in zip(self.records, keys, places, strict=True):
                result = next(decoded)[1] if place is None else self._stored(place)
                if isinstance(result, DataError):
                    self.bad.append(str(result))
                    judge_bad(result, len(self.bad), self.config)
                    continue
                digest, array = result
                if not side:
                    check_square(record, array.shape)
                    side = array.shape[0]
                elif array.shape[:2] != (side, side):
                    raise different_sizes(self.kept[0], side, record, array.shape)
                if place is None and key_of(record) != key:
                    key = os.urandom(len(key))  # written meanwhile: for this run only
                if place is None or gathers:
                    place = builder.add(key, digest, array)
                self.kept.append(record)
                self.digests.append(digest)
                self.places.append(place)
        self.num_decoded = len(missing) - len(self.bad)

    def _stored(self, place: Place) -> Result:
        segment = self.shelf.segments[place.segment]
        pixels = segment.pixels[place.row]
        return segment.digests[place.row], pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)

    def _verified(self, keys: Sequence[bytes]) -> list[Place | None]:
        """Where each image is, as far as its file's bytes and its pixels are those of when it was decoded."""
        self.shelf.drop_damaged()
        places = self.shelf.find(keys, self.size)
        there = [(record, place) for record, place in zip(self.records, places, strict=True) if place is not None]
        found = in_threads([record for record, _ in there], _digest_or_none, self.check_stop)
        changed = {
            record.name
            for (record, place), digest in zip(there, found, strict=True)
            if digest != self.shelf.segments[place.segment].digests[place.row]
        }
        text = f"{len(changed):,} of them changed without a new time or size: decoded again" if changed else "unchanged"
        self.cache.say(f"cache: {len(there):,} image files compared with what was decoded from them: {text}.")
        return [None if record.name in changed else place for record, place in zip(self.records, places, strict=True)]

    def _images(self) -> Images:
        """The images kept, out of those segments that any of them is in."""
        used = sorted({place.segment for place in self.places})
        segments = [self.shelf.segments[number] for number in used]
        if not segments:
            return load_images([], self.config, size=self.size, channels=self.channels, check_stop=lambda: None).images
        for segment in segments:
            segment.mark_used()
            if sum(segment.num_bytes for segment in segments) < available_memory_bytes():
                segment.read_ahead()
        channels = 3 if self.channels == 3 else max(segment.pixels.shape[1] for segment in segments)
        numbers = {number: position for position, number in enumerate(used)}
        return StoredImages(
            [_as_tensor(segment.pixels) for segment in segments],
            torch.tensor([numbers[place.segment] for place in self.places]),
            torch.tensor([place.row for place in self.places]),
            channels,
        )

    def _tell(self, seconds: float) -> None:
        count, decoded = len(self.kept), self.num_decoded
        size = told_size(sum(segment.num_bytes for segment in self.shelf.segments))
        if not decoded:
            what = f"{count:,} images as decoded earlier"
        elif decoded == count:
            what = f"{count:,} images decoded in {seconds:.0f} s and kept"
        else:
            what = f"{count - decoded:,} images as decoded earlier, {decoded:,} decoded in {seconds:.0f} s and kept"
        side = f" at {self.size} px" if self.size else ""
        self.cache.say(f"cache: {what} ({size}{side} in {self.cache.folder}).")


class _Builder:
    """Adds images to a shelf: grey ones in one segment, those with colour in another, each made when it is needed.

    What was added is kept also when a DataError, or a signal, ends the block.

    Args:
        shelf: whose lock is held.
        cache: that has the room.
        is_own_size: whether images keep their own size.
        num_images: to come at most.
    """

    def __init__(self, shelf: Shelf, cache: Cache, is_own_size: bool, num_images: int) -> None:
        self._shelf = shelf
        self._cache = cache
        self._notes = {"home": shelf.home, "is_own_size": is_own_size}
        self._num_left = num_images
        self._writers: dict[int, tuple[int, Path, SegmentWriter]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "_Builder":
        return self

    def add(self, key: bytes, digest: bytes, array: np.ndarray) -> Place:
        """Adds an image, uint8 (S, S) or (S, S, 3); where it will be when the block has ended."""
        channels = 1 if array.ndim == 2 else 3
        try:
            if channels not in self._writers:
                self._begin(channels, array.shape[0], self._num_left * array.nbytes)
            number, _, writer = self._writers[channels]
            row = writer.add(key, digest, array)
        except OSError as error:
            raise self._failure(error) from error
        self._num_left -= 1
        return Place(number, row)

    def _begin(self, channels: int, size: int, num_bytes: int) -> None:
        self._cache.make_room(num_bytes)
        path = new_segment_path(self._shelf.folder)
        writer = self._stack.enter_context(segment_writer(path, channels, size, self._notes))
        self._writers[channels] = (len(self._shelf.segments) + len(self._writers), path, writer)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, PtftError):
            with suppress(OSError):  # what a full disk refused is refused again when the file is closed
                self._stack.__exit__(kind, error, trace)
            return
        try:
            self._stack.close()
            for _, path, _ in self._writers.values():
                self._shelf.append(Segment.open(path))
        except (OSError, DamagedSegmentError) as failure:
            if error is None:
                raise self._failure(failure) from failure

    def _failure(self, error: OSError | DamagedSegmentError) -> CacheError:
        reason = getattr(error, "strerror", None) or str(error)
        return CacheError(f"decoded images cannot be kept in {self._cache.folder}: {reason}")


def _is_scattered(places: Sequence[Place | None]) -> bool:
    """Whether so many runs have added a few images each that it is time to gather them in one segment."""
    return len({place.segment for place in places if place is not None}) > _MOST_SEGMENTS


def _digest_or_none(record: Record) -> bytes | None:
    try:
        assert isinstance(record.image, Path)
        return digest_of(record.image)
    except OSError:
        return None


def _as_tensor(pixels: np.ndarray) -> Tensor:
    """The same memory; nothing ever writes to the images of a task."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(pixels)
