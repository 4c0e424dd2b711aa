"""Tar shards as webdataset lays them out: members that share a name up to its first dot are one sample.

Only images and the text of labels are ever read: an image's bytes go to the image decoder alone, and every other member
(`.pyd`, `.pickle`, `.pth`, `.npy`, ...) is passed over unread, whatever it would make a loader do.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from ptft.data.shards.store import Found, ShardFile, Stamp
from ptft.data.sources.listing import IMAGE_SUFFIXES, printable
from ptft.errors import DataError

_MAX_TEXT = 1 << 20
_MAX_DIGITS = 18
_CHUNK = 1 << 20
_NUM_OPEN = 32
_LABEL_KEYS = ("label", "class")
# As webdataset does: everything up to the first dot of the file name is the key.
_MEMBER = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)", re.DOTALL)


@dataclass
class _Sample:
    """The members of one key that count."""

    key: str
    image: str = ""
    offset: int = 0
    size: int = 0
    digest: bytes = b""
    cls: str | None = None
    facts: dict[str, object] | None = None


@dataclass(frozen=True)
class TarFormat:
    """Uncompressed tar files.

    Attributes:
        label: the ending of the member, or the key in its JSON member, that holds the class; None for `.cls`, else the
            key `label` or `class`.
        label_names: class names that numbers stand for; None where labels are taken as they are.
        digests: SHA-256 of each file by its name, where `ptft pack` wrote them: then the JSON member has the image's
            own name, and the key is its place; None for others.
    """

    label: str | None = None
    label_names: tuple[str, ...] | None = None
    digests: Mapping[str, str] | None = None

    def scan(self, file: ShardFile) -> Iterator[list[Found]]:
        """All images of a shard, as one group.

        Raises:
            DataError: not a tar file, compressed, cut off; not what was packed; a sample without a label.
        """
        self._check_content(file)
        try:
            with file.path.open("rb", buffering=_CHUNK) as raw, tarfile.open(fileobj=raw, mode="r:") as archive:
                yield [self._found(sample, file) for sample in _samples(archive, raw, file, self.label)]
                _check_end(archive, raw, file)
        except (
            tarfile.TarError,
            ValueError,
            OverflowError,
        ) as error:  # tarfile lets some of its numbers' errors through
            raise DataError(f"{file.name}: {_reason(file.path, error)}") from error

    def read(self, path: Path, stamp: Stamp, group: int, offset: int, size: int) -> bytes:
        """The bytes of a member, by its place in the file."""
        content = _opened(path, stamp).read(size, offset)
        if len(content) != size:
            raise OSError(None, f"{path.name} ends early")
        return content

    def _check_content(self, file: ShardFile) -> None:
        if self.digests is None:
            return
        with file.path.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != self.digests[file.path.name]:
                raise DataError(f"{file.name}: damaged: not the bytes in the manifest. Copy or pack it again.")

    def _found(self, sample: _Sample, file: ShardFile) -> Found:
        label = self._label(sample, file)
        if self.digests is not None and sample.facts and _is_place(sample.key):
            name = printable(str(sample.facts.get("name")))
            return Found(name, label, sample.offset, sample.size, sample.digest, int(sample.key))
        name = printable(f"{file.name}/{sample.image}")
        return Found(name, label, sample.offset, sample.size, sample.digest)

    def _label(self, sample: _Sample, file: ShardFile) -> str:
        facts = sample.facts or {}
        found: object = sample.cls
        for key in (self.label,) if self.label else _LABEL_KEYS:
            found = facts.get(key, None) if found is None else found
        if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
            where = self.label or f".cls member, nor {' or '.join(_LABEL_KEYS)} in a .json member"
            raise DataError(
                f"{file.name}: {printable(sample.image)} has no {where}, so it has no class. Name the member's ending "
                "or the JSON key that holds it in data.label_column."
            )
        return named(str(found), self.label_names, f"{file.name}/{printable(sample.image)}")


def named(label: str, names: tuple[str, ...] | None, where: str) -> str:
    """The class that a label stands for: itself, or the name of its number.

    Raises:
        DataError: there are names, and this is no number of one.
    """
    if names is None:
        return printable(label)
    if not _is_place(label) or int(label) >= len(names):
        raise DataError(f"{where}: label {printable(label)} is no number below {len(names)}, as data.label_names asks.")
    return names[int(label)]


def _is_place(text: str) -> bool:
    """Whether a stranger's text is a whole number that fits in 8 bytes."""
    return text.isdecimal() and len(text) <= _MAX_DIGITS


def _samples(archive: tarfile.TarFile, raw: BinaryIO, file: ShardFile, label: str | None) -> Iterator[_Sample]:
    """Samples with an image, in order; members of one sample follow one another."""
    sample: _Sample | None = None
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
        match = _MEMBER.fullmatch(member.name)
        if not member.isreg() or match is None:
            continue
        key, ending = match[1], match[2].lower()
        if sample is None or sample.key != key:
            if sample and sample.image:
                yield sample
            sample = _Sample(key)
        _add(sample, member, ending, raw, file, label)
    if sample and sample.image:
        yield sample


def _add(
    sample: _Sample, member: tarfile.TarInfo, ending: str, raw: BinaryIO, file: ShardFile, label: str | None
) -> None:
    """Takes what a member says; others are not read at all."""
    is_image = "." + ending.rpartition(".")[2] in IMAGE_SUFFIXES
    if is_image and member.issparse():
        raise DataError(f"{file.name}: {printable(member.name)} is a sparse member. Pack the images as they are.")
    if is_image and sample.image:
        raise DataError(
            f"{file.name}: {printable(sample.image)} and {printable(member.name)} are two images of one sample."
        )
    if is_image:
        sample.image, sample.offset, sample.size = member.name, member.offset_data, member.size
        sample.digest = _digest(raw, member, file)
    elif ending == (label or "cls"):
        sample.cls = _text(raw, member, file).strip()
    elif ending == "json":
        sample.facts = _facts(_text(raw, member, file), member, file)


def _digest(raw: BinaryIO, member: tarfile.TarInfo, file: ShardFile) -> bytes:
    digest, left = hashlib.blake2b(digest_size=16), member.size
    raw.seek(member.offset_data)
    while left:
        chunk = raw.read(min(left, _CHUNK))
        if not chunk:
            raise DataError(f"{file.name}: cut off inside {printable(member.name)}. Fetch or pack it again.")
        digest.update(chunk)
        left -= len(chunk)
    return digest.digest()


def _text(raw: BinaryIO, member: tarfile.TarInfo, file: ShardFile) -> str:
    if member.size > _MAX_TEXT or member.issparse():
        raise DataError(f"{file.name}: {printable(member.name)} is too large for a label ({member.size:,} bytes).")
    raw.seek(member.offset_data)
    try:
        return raw.read(member.size).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name}: {printable(member.name)} is not UTF-8 text.") from error


def _facts(text: str, member: tarfile.TarInfo, file: ShardFile) -> dict[str, object]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name}: {printable(member.name)} is not JSON.") from error
    return facts if isinstance(facts, dict) else {}


def _check_end(archive: tarfile.TarFile, raw: BinaryIO, file: ShardFile) -> None:
    """tarfile takes damage between members, and a file cut there, for the end."""
    raw.seek(archive.offset)
    block = raw.read(tarfile.BLOCKSIZE)
    if len(block) != tarfile.BLOCKSIZE or any(block):
        raise DataError(
            f"{file.name}: damaged or cut off at byte {archive.offset:,}: a tar file ends with zeros. Fetch or pack it "
            "again."
        )


def _reason(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b" or start[:3] == b"BZh" or start == b"\xfd7zX" or start == b"\x28\xb5\x2f\xfd":
        return "a compressed tar file cannot be read in the middle. Decompress it."
    return f"not a tar file, or damaged ({error}). Fetch or pack it again."


class _Opened:
    """An open file, closed with its last user."""

    def __init__(self, path: Path) -> None:
        self._number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def read(self, size: int, offset: int) -> bytes:
        """Bytes at a place. While this runs it holds the file open, whoever drops it meanwhile."""
        return os.pread(self._number, size, offset)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)


@lru_cache(maxsize=_NUM_OPEN)
def _opened(path: Path, stamp: Stamp) -> _Opened:
    """Shards stay open between images: on a network file system opening costs more than reading one."""
    return _Opened(path)
