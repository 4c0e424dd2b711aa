"""Finds image files on disk: which names count, recursively, in a stable order, and how names are printed."""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ptft.errors import DataError
from ptft.paths import user_path

IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "gif", "webp", "avif", "bmp", "dib"),
        *("tif", "tiff", "ppm", "pgm", "pbm", "pnm", "jp2", "j2k", "jpx"),
    )
)
"""File name endings, in lower case, that make a file an image; its content decides the format."""

_IGNORED = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_NUM_LISTED = 5
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""With these a name can look like another one, or like the rest of a sentence."""


def printable(text: str | os.PathLike[str]) -> str:
    r"""Text that any terminal and any UTF-8 file accepts: `\xff` for bytes that are not UTF-8, escapes for
    control characters, line separators and characters that reorder others. Clean text is returned as it is.
    """
    text = os.fspath(text)
    if (text.isascii() and text.isprintable()) or all(map(_is_clean, text)):
        return text
    return "".join(c.replace("\\", "\\\\") if _is_clean(c) else _escaped(c) for c in text)


def _is_clean(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"} and char not in _REORDERING


def _escaped(char: str) -> str:
    # os.fsdecode maps the undecodable byte 0xNN to U+DCNN.
    if 0xDC80 <= ord(char) <= 0xDCFF:
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def some(names: Iterable[str]) -> str:
    """The first few names, made printable and joined, with the count of the rest: `a, b, c and 7 more`."""
    shown = [printable(name) for name in names]
    rest = len(shown) - _NUM_LISTED
    return ", ".join(shown[:_NUM_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def file_mode(path: Path) -> int | None:
    """Type and permission bits of what is at `path`, links followed; None when nothing is reached there."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL character
        return None


def is_folder(path: Path) -> bool:
    """Whether a folder is at `path`, links followed; unlike Path.is_dir, False also where that cannot be looked up."""
    return stat.S_ISDIR(file_mode(path) or 0)


def is_file(path: Path) -> bool:
    """As `is_folder`, for a regular file."""
    return stat.S_ISREG(file_mode(path) or 0)


def existing_folder(path: str) -> Path:
    """The folder at `path`, `~` expanded.

    Raises:
        DataError: there is nothing there, or something that is not a folder.
    """
    folder = user_path(path)
    mode = file_mode(folder)
    if mode is not None and stat.S_ISDIR(mode):
        return folder
    problem = "no such folder" if mode is None else "not a folder"
    place = "" if folder.is_absolute() else f" (looked in {printable(Path.cwd())})"
    raise DataError(f"{printable(path)}: {problem}{place}.")


def sub_folders(folder: Path) -> list[str]:
    """Names of the visible folders in `folder`, links to folders included, sorted.

    Raises:
        DataError: the folder cannot be listed.
    """
    return [entry.name for entry in _entries(folder) if _is_folder(entry)]


def has_images(folder: Path) -> bool:
    """Whether an image lies directly in `folder`.

    Raises:
        DataError: the folder cannot be listed.
    """
    return any(_is_image(entry) for entry in _entries(folder))


@dataclass(frozen=True)
class Listing:
    """What lies below a folder.

    Attributes:
        images: paths of all images, relative to the folder with `/`, sorted.
        others: how many files of each ending, in lower case with its dot or empty, are not named as images.
    """

    images: list[str]
    others: Counter[str]


def told_others(others: Counter[str]) -> str:
    """`10 .heic, 3 .mp4, 1 without an ending`, the most first; empty for none."""
    return some(f"{count:,} {ending or 'without an ending'}" for ending, count in others.most_common())


def passed_over(others: Counter[str]) -> str:
    """The sentence about files among the images that are not read; empty where there are none."""
    return f"not read, as their names do not end like those of images: {told_others(others)}." if others else ""


def listing(folder: Path, *, with_lost: bool = False) -> Listing:
    """The images below `folder`, and what else is there.

    Links are followed; a folder that is reached twice is listed once, and one that `folder` lies in not at all, so
    loops end. Hidden files, the debris of operating systems, and everything that is not a regular file are left out.

    Args:
        folder: to search.
        with_lost: lists links that lead nowhere as well, which reading will then tell one by one.

    Raises:
        DataError: a folder cannot be listed, or links to images lead nowhere.
    """
    around = {(status.st_dev, status.st_ino) for status in map(os.stat, folder.resolve().parents)}
    files = list(_walk(folder, "", around))
    entries = [(path, entry) for path, entry in files if _named_as_image(entry.name)]
    others = Counter(Path(path).suffix.lower() for path, entry in files if not _named_as_image(entry.name))
    lost = [path for path, entry in entries if not _is_image(entry) and _leads_nowhere(entry)]
    if lost and not with_lost:
        count = "1 link leads" if len(lost) == 1 else f"{len(lost)} links lead"
        raise DataError(
            f"{printable(folder)}: {count} to a file that does not exist: {some(lost)}. "
            "Restore the files or remove the links."
        )
    return Listing(sorted([*(path for path, entry in entries if _is_image(entry)), *lost]), others)


def _walk(folder: Path, prefix: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    entries = _entries(folder)
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        if _is_folder(entry):
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", seen)
        else:
            yield prefix + entry.name, entry


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            visible = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in _IGNORED]
    except OSError as error:
        raise DataError(f"{printable(folder)}: the folder cannot be listed: {error.strerror}.") from error
    return sorted(visible, key=lambda entry: entry.name)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_image(entry: "os.DirEntry[str]") -> bool:
    try:
        return _named_as_image(entry.name) and entry.is_file()
    except OSError:  # a link to itself
        return False


def _named_as_image(name: str) -> bool:
    stem, dot, ending = name.rpartition(".")
    return bool(stem) and dot + ending.lower() in IMAGE_SUFFIXES


def _leads_nowhere(entry: "os.DirEntry[str]") -> bool:
    return entry.is_symlink() and file_mode(Path(entry.path)) is None
