"""The decoded images of one source in the cache folder: its segments, and the lock of whoever adds to them."""

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

from ptft.data.segments import DamagedSegmentError, Segment, is_segment
from ptft.storage import is_unfinished

_SECONDS_BETWEEN_LOOKS = 0.1


class CacheError(Exception):
    """The cache cannot be used; the message says why. Nobody but those who then go on without it sees this."""


class Place(NamedTuple):
    """Where an image lies: which segment of a shelf, and its row there."""

    segment: int
    row: int


@dataclass
class Shelf:
    """The images of one source that were decoded one way.

    Attributes:
        folder: of its segments; it need not be there yet.
        home: the folder the images came from.
        segments: those opened so far.
    """

    folder: Path
    home: str
    say: Callable[[str], None]
    segments: list[Segment] = field(default_factory=list)
    _places: dict[bytes, Place] = field(default_factory=dict)

    def find(self, keys: Sequence[bytes], size: int | None) -> list[Place | None]:
        """Where each image is, of side `size`, or for None of the side it has itself; None for one that is not here.

        Raises:
            CacheError: the folder cannot be read.
        """
        self._open_new(size)
        return [self._places.get(key) for key in keys]

    def _open_new(self, size: int | None) -> None:
        known = {segment.path for segment in self.segments}
        for path in sorted(set(listed(self.folder)) - known):
            segment = self._open(path)
            if segment is None:
                continue
            if segment.notes["is_own_size"] if size is None else segment.pixels.shape[-1] == size:
                self.append(segment)

    def append(self, segment: Segment) -> None:
        """Takes up a segment; what it holds comes before what was there."""
        number = len(self.segments)
        self.segments.append(segment)
        self._places.update((key, Place(number, row)) for row, key in enumerate(segment.keys))

    def _open(self, path: Path) -> Segment | None:
        try:
            return Segment.open(path)
        except DamagedSegmentError as error:
            self._remove_damaged(path, str(error))
        except FileNotFoundError:  # removed meanwhile, to make room
            pass
        except OSError as error:
            raise CacheError(f"{path} cannot be read: {error.strerror}") from error
        return None

    def _remove_damaged(self, path: Path, reason: str) -> None:
        self.say(f"cache: {path} is damaged ({reason}): removed; its images are decoded again.")
        with suppress(OSError):
            path.unlink()

    def drop_damaged(self) -> None:
        """Looks at every pixel, and removes the segments with any that is not what was written."""
        whole = []
        for segment in self.segments:
            if segment.has_its_pixels():
                whole.append(segment)
            else:
                self._remove_damaged(segment.path, "its pixels were changed")
        self.segments = []
        self._places.clear()
        for segment in whole:
            self.append(segment)

    @contextmanager
    def lock(self, check_stop: Callable[[], None]) -> Iterator[None]:
        """Lets one process at a time add to the shelf; the others wait, and then find what it has decoded.

        Args:
            check_stop: called while waiting; raises when a signal asked to stop.

        Raises:
            CacheError: the folder cannot be created.
        """
        try:
            make_folder(self.folder.parents[1])
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("a+")
        except OSError as error:
            raise CacheError(f"{self.folder} cannot be created: {error.strerror}") from error
        with lock:
            if self._wait(lock, check_stop):
                sweep(self.folder)  # without the lock, another may be writing what looks left over
            yield

    def _wait(self, lock: TextIO, check_stop: Callable[[], None]) -> bool:
        """Whether the lock is ours."""
        is_told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if not is_told:
                    self.say("cache: another run decodes these images; waiting for it (--no-cache does not wait).")
                is_told = True
                check_stop()
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            except OSError:  # a file system without locks: two runs may decode the same images, and both keep them
                return False


def make_folder(folder: Path) -> None:
    """Makes the cache folder, for its owner alone: the images may come from a folder that others cannot read."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def listed(folder: Path) -> list[Path]:
    """The segments in a folder; none where there is no folder."""
    try:
        return [path for path in folder.iterdir() if is_segment(path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CacheError(f"{folder} cannot be read: {error.strerror}") from error


def sweep(folder: Path) -> None:
    """Removes what a killed process was writing; whoever calls this holds the folder's lock."""
    with suppress(OSError):
        for path in filter(is_unfinished, list(folder.iterdir())):
            path.unlink()
