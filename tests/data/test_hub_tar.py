"""Tar shards of others: how samples, classes and parts are found, and what is never opened."""

import gzip
import io
import json
import os
import pickle
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from making_shards import hub, png, samples, task_of, write_tar

from ptft.data.images import DecodedImages
from ptft.data.records import Encoded
from ptft.errors import DataError

pytestmark = pytest.mark.usefixtures("cache")


def labels(path: Path, **keys: object) -> dict[str, int]:
    source = hub(path, **keys).open()
    found = [record.label for record in source.records]
    return {name: found.count(name) for name in source.classes}


def test_classes_come_from_cls_by_name_and_sorted(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", samples(6, ("dog", "cat")))
    write_tar(tmp_path / "b.tar", samples(6, ("eel", "cat"), start=6))
    source = hub(tmp_path).open()
    assert source.classes == ("cat", "dog", "eel")
    assert [record.name for record in source.records[:2]] == ["a.tar/0000.png", "a.tar/0001.png"]
    assert [record.label for record in source.records[-2:]] == ["eel", "cat"]


@pytest.mark.parametrize(
    ("ending", "text", "keys"),
    [
        ("cls", "{}\n", {}),
        ("json", '{{"label": "{}"}}', {}),
        ("json", '{{"class": "{}", "width": 3}}', {}),
        ("json", '{{"label": 7, "breed": "{}"}}', {"label_column": "breed"}),
        ("breed", "{}", {"label_column": "breed"}),
    ],
)
def test_the_class_is_found_where_shards_keep_it(
    tmp_path: Path, ending: str, text: str, keys: dict[str, object]
) -> None:
    members = []
    for index, name in enumerate(["cat", "dog", "dog"]):
        members += [(f"d/{index}.png", png(index)), (f"d/{index}.{ending}", text.format(name).encode())]
    assert labels(write_tar(tmp_path / "x.tar", members), **keys) == {"cat": 1, "dog": 2}


def test_numbers_stay_numbers_unless_they_are_given_names(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", samples(6, ("1", "0", "1")))
    assert labels(path) == {"0": 2, "1": 4}
    assert labels(path, label_names=["zebra", "ant"]) == {"zebra": 2, "ant": 4}
    with pytest.raises(DataError, match=r"0001\.png: label 0 is no number|label 1 is no number below 1"):
        labels(path, label_names=["zebra"])


def test_parts_come_from_the_names_of_files_and_folders(tmp_path: Path) -> None:
    write_tar(tmp_path / "data-train-00000-of-00001.tar", samples(8))
    write_tar(tmp_path / "valid" / "0.tar", samples(4, start=8))
    write_tar(tmp_path / "test" / "0.tar", samples(2, start=12))
    found = task_of(hub(tmp_path))
    assert {part: len(examples) for part, examples in found.parts.items()} == {"train": 8, "validation": 4, "test": 2}
    write_tar(tmp_path / "more.tar", samples(2, start=14))
    with pytest.raises(DataError, match=r"some files are of a part .*, more\.tar not"):
        hub(tmp_path).open()


def test_without_parts_the_split_is_by_name_as_for_every_source(tmp_path: Path) -> None:
    found = task_of(hub(write_tar(tmp_path / "x.tar", samples(40)), validation=0.25, test=0.5))
    assert {part: found.class_counts(part) for part in found.parts} == {
        "train": [8, 8],
        "validation": [2, 2],
        "test": [10, 10],
    }


PICKLED = ("pickle", "pkl", "pyd", "pth", "pt", "npy", "npz", "ten", "tb", "msg", "mp", "cbor", "pickle.gz", "cls.pkl")


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("read", [{}, {"read": "streaming", "image_size": 8}])
def test_no_pickled_member_of_a_shard_is_ever_decoded(tmp_path: Path, read: dict[str, object]) -> None:
    target = tmp_path / "harm"
    payload = pickle.dumps(Payload(target))
    array = io.BytesIO()
    np.save(array, np.array([Payload(target)], dtype=object), allow_pickle=True)
    held = {"npy": array.getvalue(), "pickle.gz": gzip.compress(payload)}
    members = []
    for index in range(8):
        members += [(f"{index}.{ending}", held.get(ending, payload)) for ending in PICKLED]
        members += [(f"{index}.png", png(index)), (f"{index}.cls", b"ab"[index % 2 : index % 2 + 1])]
        members += [(f"only{index}.{ending}", held.get(ending, payload)) for ending in PICKLED]
    found = task_of(hub(write_tar(tmp_path / "x.tar", members), **read))
    assert len(found.train.images.take(torch.arange(len(found.train)))) == len(found.train)
    assert sum(map(len, found.parts.values())) == 8
    assert not target.exists()
    # The payloads are real: what a loader that decodes by ending would do.
    for harm in (payload, gzip.decompress(held["pickle.gz"])):
        pickle.loads(harm)
        assert target.is_dir()
        shutil.rmtree(target)
    np.load(io.BytesIO(held["npy"]), allow_pickle=True)
    assert target.is_dir()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps([1]), "not an image file ptft can read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image file ptft can read"),
        (b"", "the file is empty"),
        (png(1)[:-60], "truncated"),
    ],
)
def test_what_is_called_an_image_meets_the_image_decoder_and_its_limits(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = write_tar(tmp_path / "x.tar", [*samples(6), ("9.png", content), ("9.cls", b"cat")])
    with pytest.raises(DataError, match=rf"x\.tar/9\.png: cannot be read: .*{reason}"):
        task_of(hub(path, validation=0, test=0))
    assert len(task_of(hub(path, on_bad_image="skip", validation=0, test=0)).train) == 6


def whole() -> bytes:
    file = io.BytesIO()
    import tarfile

    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in samples(6):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def second_header(content: bytes) -> int:
    return content.index(b"0001.png")


BROKEN = {
    "empty": (lambda c: b"", "not a tar file, or damaged"),
    "text": (lambda c: b"hello" * 1000, "not a tar file, or damaged"),
    "gzip": (gzip.compress, "a compressed tar file cannot be read in the middle. Decompress it"),
    "cut in an image": (lambda c: c[: second_header(c) + 700], "cut off|not a tar file, or damaged"),
    "cut between members": (lambda c: c[: second_header(c)], "damaged or cut off at byte"),
    "damaged between members": (
        lambda c: c[: second_header(c)] + b"x" * 512 + c[second_header(c) + 512 :],
        "damaged or cut off at byte",
    ),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_damaged_shard_is_one_sentence_with_its_name(tmp_path: Path, damage: str) -> None:
    change, sentence = BROKEN[damage]
    (tmp_path / "good.tar").write_bytes(whole())
    assert sum(labels(tmp_path).values()) == 6
    (tmp_path / "x.tar").write_bytes(change(whole()))
    with pytest.raises(DataError, match=rf"^x\.tar: .*({sentence})"):
        labels(tmp_path)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([("1.png", png(0))], r"1\.png has no \.cls member, nor label or class in a \.json member"),
        ([("1.png", png(0)), ("1.cls", b"\xff\xfe")], r"1\.cls is not UTF-8 text"),
        ([("1.png", png(0)), ("1.cls", b"x" * (2 << 20))], r"1\.cls is too large for a label"),
        ([("1.png", png(0)), ("1.json", b"{")], r"1\.json is not JSON"),
        ([("1.png", png(0)), ("1.json", b"[" * 100_000)], r"1\.json is not JSON"),
        ([("1.png", png(0)), ("1.json", b'{"label": null}')], r"1\.png has no \.cls member"),
        ([("1.png", png(0)), ("1.json", b'{"label": true}')], r"1\.png has no \.cls member"),
        ([("1.png", png(0)), ("1.jpg", png(0)), ("1.cls", b"a")], r"are two images of one sample"),
        (
            [("1.png", png(0)), ("1.cls", b"a"), ("2.cls", b"a"), ("1.png", png(0)), ("1.cls", b"a")],
            "two images are called",
        ),
        ([("1.cls", b"a")], "no training images"),
        (samples(3, ("cat",)), "only one class, cat"),
    ],
)
def test_samples_that_cannot_be_used_are_named(tmp_path: Path, members: list[tuple[str, bytes]], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        labels(write_tar(tmp_path / "x.tar", members))


def test_places_that_hold_no_shards_say_what_to_do(tmp_path: Path) -> None:
    write_tar(tmp_path / "both" / "a.tar", samples(4))
    (tmp_path / "both" / "b.parquet").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.zip").touch()
    for name, sentence in {
        "both": r"both \.parquet and \.tar files",
        "empty": r"no manifest\.json, no \.tar and no \.parquet files .*data\.name: folder",
        "nowhere": "no such folder, and no name of a data set",
        "x.tar": "no such file",
        "x" * 300: "no such folder, and no name of a data set",
        "x" * 300 + ".tar": "no such file",
        "x.zip": r"neither a \.tar nor a \.parquet file",
    }.items():
        with pytest.raises(DataError, match=sentence):
            hub(tmp_path / name).open()


def test_a_second_start_reads_the_kept_index_until_a_shard_changes(tmp_path: Path, cache: Path) -> None:
    path = write_tar(tmp_path / "x.tar", samples(6))
    before = path.stat()
    assert labels(path) == {"cat": 3, "dog": 3}
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert labels(path) == {"cat": 3, "dog": 3}, "the shard was read again"
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(DataError):
        labels(path)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for kept in cache.rglob("*.npy"):
        kept.write_bytes(kept.read_bytes()[:-5])
    assert labels(path) == {"cat": 3, "dog": 3}, "a damaged index is made again"


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PTFT_CACHE_DIR", str(tmp_path / "file"))
    assert labels(write_tar(tmp_path / "x.tar", samples(6))) == {"cat": 3, "dog": 3}


def test_a_shard_that_changes_after_it_was_scanned_is_an_error_with_the_image(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", samples(20))
    found = task_of(hub(path, read="mapped", image_size=8))
    assert isinstance(found.train.images, DecodedImages)
    rows = torch.arange(len(found.train))
    found.train.images.take(rows)
    content = path.read_bytes()
    for other in (content[:5000], content[:-1] + b"x"):
        path.write_bytes(other)
        with pytest.raises(DataError, match=r"x\.tar/00\d\d\.png: cannot be read: x\.tar changed since it was scanned"):
            found.train.images.take(rows)


def test_json_facts_that_are_no_object_are_no_label(tmp_path: Path) -> None:
    members = [*samples(4), ("9.png", png(9)), ("9.json", json.dumps(["cat"]).encode())]
    with pytest.raises(DataError, match=r"9\.png has no"):
        labels(write_tar(tmp_path / "x.tar", members))


def test_many_threads_read_many_shards_right_though_few_stay_open(tmp_path: Path) -> None:
    """A file dropped from those kept open while a thread reads it must not be closed under its hands."""
    for number in range(60):
        write_tar(tmp_path / f"{number:02d}.tar", samples(4, start=4 * number))
    records = hub(tmp_path).open().records

    def read(row: int) -> bool:
        image = records[row].image
        assert isinstance(image, Encoded)
        return image.read() == contents[row]

    contents = [png(index) for index in range(240)]
    rows = [row * 37 % 240 for row in range(6000)]
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, rows))


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.map": "x"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
        {"GNU.sparse.map": "x", "GNU.sparse.size": "9"},
    ],
)
def test_headers_at_which_tarfile_stumbles_are_damage(tmp_path: Path, headers: dict[str, str]) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("0.png")
        content = png(0)
        member.size, member.pax_headers = len(content), headers
        archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match="not a tar file, or damaged"):
        hub(tmp_path / "x.tar").open()


def test_a_number_of_thousands_of_digits_is_no_class(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("0.png", png(0)), ("0.cls", b"1" * 5000)])
    with pytest.raises(DataError, match="is no number below 2"):
        hub(path, label_names=["cat", "dog"]).open()


def test_a_label_damaged_in_the_kept_index_is_found_and_the_shards_are_scanned_again(
    tmp_path: Path, cache: Path
) -> None:
    path = write_tar(tmp_path / "x.tar", samples(6))
    before = labels(path)
    (rows,) = cache.glob("shards/*/rows.npy")
    content = bytearray(rows.read_bytes())
    content[-56 + 8] ^= 1  # the label of the last image
    rows.write_bytes(content)
    assert labels(path) == before
    assert rows.read_bytes() != content
