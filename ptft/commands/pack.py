"""`ptft pack`: the images of any source as tar shards in the layout of webdataset, with a manifest.

A sample is KEY.jpg (or .png, ...) with the image as it is, and KEY.json with `label`, the class name, and `name`, what
the source calls the image; KEY is its place in the source. So a packed source is split, ordered and fingerprinted as
the source itself. Shards hold the images of a part in an order shuffled by their names, so that any few shards are a
fair sample; the same images give the same bytes.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from ptft.data.decode import decode
from ptft.data.images import decode_all, judge_bad
from ptft.data.labelling import ONE_CLASS
from ptft.data.records import Encoded, Part, Record, Source
from ptft.data.shards.manifest import MANIFEST, Manifest, ShardEntry, part_name, write_manifest
from ptft.data.sources.base import DataConfig
from ptft.data.sources.listing import IMAGE_SUFFIXES
from ptft.errors import DataError, UsageError
from ptft.report.console import Console
from ptft.storage import storage_errors, sync_file, sync_folder, write_text_durably

_Placed = tuple[int, Record]
"""A record and its place in the source."""

_SMALL = 32
_MAGIC = {b"\xff\xd8": "jpg", b"\x89PNG": "png", b"GIF8": "gif", b"BM": "bmp", b"RIFF": "webp", b"II*\0": "tif"}


def pack(
    source: Source,
    config: DataConfig,
    out: Path,
    *,
    images_per_shard: int,
    console: Console,
    check_stop: Callable[[], None] = lambda: None,
) -> Manifest:
    """Writes the images of a source as shards.

    Every image is decoded once to see that it can be; its bytes go into the shard as they are, pixels without a file as
    PNG.

    Args:
        source: what to pack.
        config: its section: classes, on_bad_image, max_bad_images, max_pixels.
        out: the folder to write; there must be nothing yet.
        images_per_shard: at most.
        console: told what is left out.
        check_stop: called between images; raises when a signal asked to stop.

    Returns:
        The manifest, as written.

    Raises:
        UsageError: there is something at `out`.
        DataError: an image cannot be read, a class is unknown.
        StorageError: the shards cannot be written; nothing is left behind.
    """
    _check_free(out)
    classes, _ = ONE_CLASS.choose(source, config.classes)
    records = [(place, record) for place, record in enumerate(source.records) if record.label in set(classes)]
    readable = _readable(records, config, console, check_stop)
    shards: list[ShardEntry] = []
    counts: dict[str, dict[str, int]] = {}
    with _new_folder(out) as folder:
        for part in dict.fromkeys(record.part for _, record in readable):
            members = sorted((item for item in readable if item[1].part == part), key=_rank)
            found = Counter(record.label for _, record in members)
            counts[part_name(part)] = {name: found[name] for name in classes}
            for number, start in enumerate(range(0, len(members), images_per_shard)):
                path = folder / f"{part_name(part)}-{number:05d}.tar"
                shards.append(_write_shard(path, part, members[start : start + images_per_shard], config, check_stop))
        manifest = Manifest(origin=source.origin, classes=classes, counts=counts, shards=tuple(shards))
        write_text_durably(folder / MANIFEST, write_manifest(manifest))
    return manifest


def _readable(
    records: Sequence[_Placed], config: DataConfig, console: Console, check_stop: Callable[[], None]
) -> list[_Placed]:
    """Those that can be decoded; the others are told, and counted as the config says."""
    kept, num_bad = [], 0
    # At a small size: what is decoded waits in memory until it is looked at.
    results = decode_all([record for _, record in records], _SMALL, None, config.max_pixels, check_stop)
    for item, (_, result) in zip(records, results, strict=True):
        if isinstance(result, DataError):
            num_bad += 1
            judge_bad(result, num_bad, config)
            console.say(f"left out: {result}")
        else:
            kept.append(item)
    if not kept:
        raise DataError("no image to pack.")
    return kept


def _rank(item: _Placed) -> bytes:
    """Decides the order inside a part: by a hash of the name, so that a shard holds images of all classes."""
    name = item[1].name.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(name, digest_size=16, person=b"ptft pack").digest()


def _write_shard(
    path: Path, part: Part | None, members: Sequence[_Placed], config: DataConfig, check_stop: Callable[[], None]
) -> ShardEntry:
    """Writes one tar file, in which nothing depends on when, where and by whom."""
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for place, record in members:
            check_stop()
            content, ending = _content(record, config.max_pixels)
            facts = {"label": record.label, "name": record.name}
            _add(archive, f"{place:09d}.{ending}", content)
            _add(archive, f"{place:09d}.json", json.dumps(facts, ensure_ascii=True).encode())
    sync_file(path)
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return ShardEntry(file=path.name, part=part, num_images=len(members), num_bytes=path.stat().st_size, sha256=digest)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _content(record: Record, max_pixels: int) -> tuple[bytes, str]:
    """The bytes of an image file and its ending.

    Raises:
        DataError: the image is gone since it was decoded.
    """
    image = record.image
    if isinstance(image, Path | Encoded):
        try:
            content = image.read() if isinstance(image, Encoded) else image.read_bytes()
        except OSError as error:
            raise DataError(f"{record.name}: cannot be read: {error.strerror or error}.") from error
        return content, _ending(content, record.name)
    pixels = decode(image, size=None, channels=None, max_pixels=max_pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), "png"


def _ending(content: bytes, name: str) -> str:
    """For other tools: ptft itself goes by the content."""
    for start, ending in _MAGIC.items():
        if content.startswith(start):
            return ending
    ending = Path(name).suffix.lower()
    return ending.removeprefix(".") if ending in IMAGE_SUFFIXES else "jpg"


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when all is written, and is gone when anything fails."""
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with storage_errors(out, "write"):
        out.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        try:
            yield beside
            sync_folder(beside)
            _check_free(out)
            beside.rename(out)
            sync_folder(out.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _check_free(out: Path) -> None:
    with storage_errors(out, "write"):
        is_there = out.exists() or out.is_symlink()
    if is_there:
        raise UsageError(f"{out} is there already. Choose another folder with --out, or remove it.")


def describe_packed(manifest: Manifest, out: Path) -> tuple[dict[str, Any], str]:
    """What was packed as plain Python, and in one sentence."""
    num_bytes = sum(shard.num_bytes for shard in manifest.shards)
    found = {
        "path": str(out),
        "num_images": manifest.num_images,
        "num_shards": len(manifest.shards),
        "num_bytes": num_bytes,
        "classes": list(manifest.classes),
        "counts": manifest.counts,
    }
    sentence = (
        f"packed {manifest.num_images:,} images of {len(manifest.classes)} classes into {len(manifest.shards):,} "
        f"shards, {num_bytes / 1e6:,.1f} MB."
    )
    return found, sentence
