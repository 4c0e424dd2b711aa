"""The cache of decoded images: never seen in a result, never half written, never in the way."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import COLOURS, make_images
from PIL import Image

import ptft.data.images
from ptft.data.cache import Cache, key_of
from ptft.data.segments import SUFFIX
from ptft.data.shelf import CacheError
from ptft.data.sources import Csv, Folder
from ptft.data.stored import StoredImages
from ptft.data.task import Task, prepare
from ptft.errors import DataError, StoppedError


class Kept:
    """A cache folder, and what was said about it since it was last asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._said: list[str] = []

    def cache(self, *, verify: bool = False, limit_bytes: int | None = None) -> Cache:
        return Cache(self.folder, limit_bytes, verify, self._said.append)

    def said(self) -> str:
        text = "\n".join(self._said)
        self._said.clear()
        return text

    def segments(self) -> list[Path]:
        return sorted(self.folder.glob(f"images/*/*{SUFFIX}"))


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "cache")


def task(root: Path, cache: Cache | None = None, in_channels: int | None = None, **keys: object) -> Task:
    config = Folder.model_validate({"name": "folder", "root": str(root)} | keys)
    return prepare(config.open(), config, seed=0, in_channels=in_channels, cache=cache)


def assert_same(found: Task, expected: Task) -> None:
    """Everything a run could see of a task."""
    for name in ("classes", "format", "fingerprint", "listing", "held_out", "origin"):
        assert getattr(found, name) == getattr(expected, name), name
    assert list(found.bad_images) == list(expected.bad_images)
    assert found.parts.keys() == expected.parts.keys()
    for part, examples in expected.parts.items():
        rows = torch.arange(len(examples)).flip(0)
        assert torch.equal(found.parts[part].images.take(rows), examples.images.take(rows)), part
        assert torch.equal(found.parts[part].labels, examples.labels)
        assert found.parts[part].names == examples.names
        assert (found.parts[part].larger is None) == (examples.larger is None)
        assert torch.equal(found.parts[part].to_augment.take(rows), examples.to_augment.take(rows)), part


def replace_unnoticed(path: Path, content: bytes) -> None:
    """Other bytes under the same name, size and time."""
    status = path.stat()
    assert len(content) <= status.st_size
    path.write_bytes(content.ljust(status.st_size, b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def make_grey(root: Path, share: float) -> None:
    """Turns the first files of each class grey."""
    for folder in root.iterdir():
        files = sorted(folder.iterdir())
        for path in files[: round(share * len(files))]:
            Image.open(path).convert("L").save(path)


class TestSameAsWithout:
    @pytest.mark.parametrize("grey", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("in_channels", [None, 1, 3])
    @pytest.mark.parametrize("image_size", [None, 10])
    def test_tasks_are_the_same_when_decoded_and_when_found(
        self, photos: Path, kept: Kept, grey: float, in_channels: int | None, image_size: int | None
    ) -> None:
        make_grey(photos, grey)
        expected = task(photos, None, in_channels, image_size=image_size)
        assert_same(task(photos, kept.cache(), in_channels, image_size=image_size), expected)
        assert "60 images decoded in" in kept.said()
        assert_same(task(photos, kept.cache(), in_channels, image_size=image_size), expected)
        assert "60 images as decoded earlier" in kept.said()

    @pytest.mark.parametrize("grey", [0.3, 1.0])
    def test_larger_training_images_are_the_same_and_found_too(self, photos: Path, kept: Kept, grey: float) -> None:
        make_grey(photos, grey)
        expected = task(photos, image_size=10, store_size=14)
        assert expected.train.larger is not None
        assert_same(task(photos, kept.cache(), image_size=10, store_size=14), expected)
        assert "42 images decoded in" in kept.said()
        assert_same(task(photos, kept.cache(), image_size=10, store_size=14), expected)
        said = kept.said()
        assert "60 images as decoded earlier" in said
        assert "at 10 px" in said
        assert "42 images as decoded earlier" in said
        assert "at 14 px" in said

    def test_large_images_of_every_shape_are_the_same(self, tmp_path: Path, kept: Kept) -> None:
        rng = np.random.default_rng(0)
        for name in ("a", "b"):
            (tmp_path / "set" / name).mkdir(parents=True)
            for index, shape in enumerate([(90, 200, 3), (300, 64), (33, 34, 3), (8, 8), (150, 150, 4)]):
                array = rng.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(array).save(tmp_path / "set" / name / f"{index}.{'png' if len(shape) < 3 else 'webp'}")
        for in_channels in (None, 1, 3):
            expected = task(tmp_path / "set", None, in_channels, image_size=24)
            for _ in range(2):
                assert_same(task(tmp_path / "set", kept.cache(), in_channels, image_size=24), expected)

    def test_images_that_cannot_be_read_are_named_the_same_every_time(self, photos: Path, kept: Kept) -> None:
        for index in range(3):
            (photos / "red" / f"bad{index}.png").write_bytes(b"no image")
        expected = task(photos, on_bad_image="skip")
        assert len(expected.bad_images) == 3
        for _ in range(2):
            assert_same(task(photos, kept.cache(), on_bad_image="skip"), expected)
        with pytest.raises(DataError, match=r"red/bad\d\.png.*on_bad_image=skip"):
            task(photos, kept.cache())
        with pytest.raises(DataError, match="allows 2"):
            task(photos, kept.cache(), on_bad_image="skip", max_bad_images=2)

    def test_an_image_that_was_bad_is_read_once_it_is_mended(self, photos: Path, kept: Kept) -> None:
        path = photos / "red" / "000.jpg"
        content = path.read_bytes()
        replace_unnoticed(path, b"no image")
        assert len(task(photos, kept.cache(), on_bad_image="skip").bad_images) == 1
        replace_unnoticed(path, content)
        assert_same(task(photos, kept.cache()), task(photos))

    def test_sizes_that_differ_are_refused_with_the_same_words(self, photos: Path, kept: Kept) -> None:
        task(photos, kept.cache())
        Image.new("RGB", (30, 20)).save(photos / "red" / "odd.png")
        with pytest.raises(DataError) as expected:
            task(photos)
        for _ in range(2):
            with pytest.raises(DataError) as found:
                task(photos, kept.cache())
            assert str(found.value) == str(expected.value)

    def test_a_table_is_kept_too(self, photos: Path, tmp_path: Path, kept: Kept) -> None:
        lines = [f"{path.relative_to(photos)},{path.parent.name}" for path in sorted(photos.rglob("*.*"))]
        (photos / "all.csv").write_text("\n".join(["path,label", *lines]))
        config = Csv(name="csv", path=str(photos / "all.csv"))
        expected = prepare(config.open(), config, seed=0)
        for _ in range(2):
            assert_same(prepare(config.open(), config, seed=0, cache=kept.cache()), expected)
        assert "60 images as decoded earlier" in kept.said()


class TestWhatIsDecodedAgain:
    def test_nothing_where_nothing_changed(self, photos: Path, kept: Kept) -> None:
        before = task(photos, kept.cache())
        for path in photos.rglob("*.*"):
            replace_unnoticed(path, b"no image any more")
        assert_same(task(photos, kept.cache()), before)
        with pytest.raises(DataError):
            task(photos)

    def test_one_file_that_was_touched(self, photos: Path, kept: Kept) -> None:
        task(photos, kept.cache())
        os.utime(photos / "red" / "000.jpg", ns=(1, 1))
        kept.said()
        assert_same(task(photos, kept.cache()), task(photos))
        assert "59 images as decoded earlier, 1 decoded" in kept.said()

    def test_files_that_were_added(self, photos: Path, kept: Kept) -> None:
        task(photos, kept.cache())
        make_images(photos / "more", {"a": (1, 2, 3)}, 5)
        (photos / "more" / "a").rename(photos / "red" / "more")
        (photos / "more").rmdir()
        kept.said()
        assert_same(task(photos, kept.cache()), task(photos))
        assert "60 images as decoded earlier, 5 decoded" in kept.said()

    def test_another_split_other_classes_and_fewer_labels_share_what_is_kept(self, photos: Path, kept: Kept) -> None:
        task(photos, kept.cache())
        size = sum(path.stat().st_size for path in kept.segments())
        for keys in (
            {"split_seed": 3, "validation": 0.3},
            {"classes": ["red", "blue"]},
            {"labels_per_class": 4},
            {"image_size": 12},
        ):
            kept.said()
            assert_same(task(photos, kept.cache(), **keys), task(photos, **keys))
            assert "as decoded earlier (" in kept.said()
        assert sum(path.stat().st_size for path in kept.segments()) == size

    def test_what_many_runs_have_added_is_gathered(self, photos: Path, kept: Kept) -> None:
        for path in sorted(photos.rglob("*.*"))[:20]:
            os.utime(path, ns=(1, 1))
            found = task(photos, kept.cache())
        assert_same(found, task(photos))
        assert len(kept.segments()) == 20
        assert isinstance(found.train.images, StoredImages)
        assert len(found.train.images.files) == 3  # all of them after the 17th, and two touched since

    @pytest.mark.parametrize(
        ("before", "keys"),
        [
            ({}, {"image_size": 16}),
            ({}, {"max_pixels": 1000}),
            ({}, {"in_channels": 1}),
            ({"image_size": 16}, {}),
            ({"in_channels": 1}, {}),
        ],
    )
    def test_all_of_it_for_another_size_limit_or_colour(
        self, photos: Path, kept: Kept, before: dict[str, Any], keys: dict[str, Any]
    ) -> None:
        task(photos, kept.cache(), **before)
        kept.said()
        assert_same(task(photos, kept.cache(), **keys), task(photos, **keys))
        assert "60 images decoded in" in kept.said()

    def test_all_of_it_by_another_decoder(self, photos: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
        task(photos, kept.cache())
        kept.said()
        monkeypatch.setattr("ptft.data.cache.decoder", lambda: "another one")
        task(photos, kept.cache())
        assert "60 images decoded in" in kept.said()

    def test_the_same_names_sizes_and_times_elsewhere(self, photos: Path, tmp_path: Path, kept: Kept) -> None:
        for path in photos.rglob("*.*"):
            os.utime(path, ns=(1, 1))
        task(photos, kept.cache())
        other = make_images(tmp_path / "other", dict(zip(COLOURS, reversed(COLOURS.values()), strict=True)), 20)
        for path in other.rglob("*.*"):
            os.utime(path, ns=(1, 1))
        assert_same(task(other, kept.cache()), task(other))

    def test_a_file_written_while_it_is_decoded_is_not_taken_for_what_it_is_then(
        self, photos: Path, kept: Kept
    ) -> None:
        """Also where it is put back afterwards, its time included."""
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*.*")}
        others = next(iter(before.values()))[0]
        waiting = list(before)

        def change() -> None:
            while waiting:
                waiting.pop().write_bytes(others)

        config = Folder(name="folder", root=str(photos))
        prepare(config.open(), config, seed=0, cache=kept.cache(), check_stop=change)
        for path, (own, changed) in before.items():
            path.write_bytes(own)
            os.utime(path, ns=(changed, changed))
        kept.said()
        assert_same(task(photos, kept.cache()), task(photos))
        assert "60 images decoded in" in kept.said()


class TestVerify:
    def test_finds_files_that_changed_without_a_sign(self, photos: Path, kept: Kept) -> None:
        task(photos, kept.cache())
        path = photos / "red" / "001.png"
        other = max((photos / "blue").glob("*.png"), key=lambda file: -file.stat().st_size)
        replace_unnoticed(path, other.read_bytes()[: path.stat().st_size])
        found = task(photos, kept.cache(), on_bad_image="skip")
        assert found.fingerprint != task(photos, on_bad_image="skip").fingerprint  # nobody has looked
        kept.said()
        verified = task(photos, kept.cache(verify=True), on_bad_image="skip")
        assert "1 of them changed" in kept.said()
        assert_same(verified, task(photos, on_bad_image="skip"))

    def test_finds_a_flipped_bit_of_the_pixels(self, photos: Path, kept: Kept) -> None:
        expected = task(photos, kept.cache())
        (segment,) = kept.segments()
        before = expected.train.images.take(torch.arange(42)).clone()
        flip(segment, 1000)
        assert "damaged" not in kept.said()
        for verify in (True, False):
            assert_same(task(photos, kept.cache(verify=verify)), task(photos))
            assert ("its pixels were changed" in kept.said()) == verify
        assert torch.equal(task(photos, kept.cache()).train.images.take(torch.arange(42)), before)

    def test_leaves_what_is_whole(self, photos: Path, kept: Kept) -> None:
        task(photos, kept.cache())
        segments = kept.segments()
        kept.said()
        task(photos, kept.cache(verify=True))
        assert "60 image files compared with what was decoded from them: unchanged" in kept.said()
        assert kept.segments() == segments


class TestDamage:
    @pytest.mark.parametrize("where", [-1, -60, -200, -500])
    def test_outside_the_pixels_is_found_at_once(self, photos: Path, kept: Kept, where: int) -> None:
        task(photos, kept.cache())
        flip(kept.segments()[0], where)
        kept.said()
        assert_same(task(photos, kept.cache()), task(photos))
        said = kept.said()
        assert "is damaged" in said
        assert "60 images decoded in" in said
        task(photos, kept.cache())
        assert "60 images as decoded earlier" in kept.said()

    @pytest.mark.parametrize("length", [0, 10, 5000])
    def test_a_file_that_was_cut_off(self, photos: Path, kept: Kept, length: int) -> None:
        task(photos, kept.cache())
        os.truncate(kept.segments()[0], length)
        assert_same(task(photos, kept.cache()), task(photos))
        assert "is damaged" in kept.said()


class TestInterrupted:
    def test_a_signal_keeps_what_was_decoded_until_then(self, photos: Path, kept: Kept) -> None:
        make_images(photos / "more", {"a": (1, 2, 3)}, 1000)
        (photos / "more" / "a").rename(photos / "red" / "more")
        (photos / "more").rmdir()
        calls: Iterator[int] = iter(range(800))

        def stop() -> None:
            if next(calls, None) is None:
                raise StoppedError(15)

        config = Folder(name="folder", root=str(photos))
        with pytest.raises(StoppedError):
            prepare(config.open(), config, seed=0, cache=kept.cache(), check_stop=stop)
        assert_same(task(photos, kept.cache()), task(photos))
        earlier = int(kept.said().split(" images as decoded earlier")[0].split()[-1].replace(",", ""))
        assert 64 <= earlier < 1060

    def test_a_kill_leaves_nothing_that_counts_and_the_next_run_sweeps(self, photos: Path, kept: Kept) -> None:
        # Two threads may come to `stop`: print would write the line and its end one after the other.
        source = (
            "import os, sys, time; from pathlib import Path\n"
            "from ptft.data.cache import Cache; from ptft.data.sources import Folder\n"
            "from ptft.data.task import prepare\n"
            "config = Folder(name='folder', root=sys.argv[1])\n"
            "def stop():\n"
            "    if any(Path(sys.argv[2]).glob('images/*/.*.tmp')): os.write(1, b'writing\\n'); time.sleep(60)\n"
            "prepare(config.open(), config, seed=0, cache=Cache(Path(sys.argv[2])), check_stop=stop)\n"
        )
        make_images(photos / "more", {"a": (1, 2, 3)}, 2200)  # more than is under way at once
        (photos / "more" / "a").rename(photos / "red" / "more")
        (photos / "more").rmdir()
        with subprocess.Popen(
            [sys.executable, "-c", source, str(photos), str(kept.folder)], stdout=subprocess.PIPE, text=True
        ) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == "writing\n"
            running.kill()
        assert list(kept.folder.glob("images/*/.*.tmp"))
        assert kept.segments() == []
        found = task(photos, kept.cache())
        assert f"{2260:,} images decoded in" in kept.said()
        assert not list(kept.folder.glob("images/*/.*.tmp"))
        assert_same(found, task(photos))


class TestSideBySide:
    def test_a_second_run_waits_and_finds_what_the_first_has_decoded(
        self, photos: Path, tmp_path: Path, kept: Kept
    ) -> None:
        first = Kept(tmp_path / "first")
        expected = task(photos, first.cache())
        shelf = kept.cache().shelf(photos, 100_000_000, None)
        found: list[Task] = []
        second = threading.Thread(target=lambda: found.append(task(photos, kept.cache())))
        with shelf.lock(lambda: None):
            second.start()
            said = until(kept.said)
            assert "another run decodes these images; waiting" in said
            for path in first.segments():
                os.link(path, shelf.folder / path.name)
        second.join(60)
        assert "60 images as decoded earlier" in kept.said()
        assert_same(found[0], expected)

    def test_without_locks_nothing_that_another_may_be_writing_is_swept(
        self, photos: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(38, "Function not implemented")

        shelf = kept.cache().shelf(photos, 100_000_000, None)
        with shelf.lock(lambda: None):
            unfinished = shelf.folder / ".begun.tmp"
            unfinished.touch()
        with monkeypatch.context() as patch:
            patch.setattr("fcntl.flock", refuse)
            with shelf.lock(lambda: None):
                assert unfinished.exists()
        with shelf.lock(lambda: None):
            assert not unfinished.exists(), "with the lock it is what a killed run left"

    def test_a_signal_ends_the_waiting(self, photos: Path, kept: Kept) -> None:
        def stop() -> None:
            raise StoppedError(2)

        config = Folder(name="folder", root=str(photos))
        with kept.cache().shelf(photos, 100_000_000, None).lock(lambda: None), pytest.raises(StoppedError):
            prepare(config.open(), config, seed=0, cache=kept.cache(), check_stop=stop)


def until(said: Callable[[], str]) -> str:
    """The first thing said, within a minute."""
    for _ in range(600):
        if text := said():
            return text
        time.sleep(0.1)
    raise AssertionError("nothing was said")


class TestRoom:
    def test_it_costs_at_most_a_tenth_more_than_the_pixels(self, tmp_path: Path, kept: Kept) -> None:
        for size, count in ((28, 40), (32, 40), (64, 10)):
            root = make_images(tmp_path / str(size), COLOURS, count, size)
            make_grey(root, 1.0 if size == 28 else 0.0)
            found = Kept(tmp_path / f"cache-{size}")
            images = task(root, found.cache())
            num_pixels = 3 * count * size * size * images.format.in_channels
            assert sum(path.stat().st_size for path in found.folder.rglob("*") if path.is_file()) <= 1.1 * num_pixels

    def test_a_set_that_is_larger_than_the_limit_is_decoded_without_it(self, photos: Path, kept: Kept) -> None:
        assert_same(task(photos, kept.cache(limit_bytes=10_000)), task(photos))
        said = kept.said()
        assert "do not fit" in said
        assert "going on without it" in said
        assert kept.segments() == []

    def test_what_was_used_least_recently_goes_first(self, tmp_path: Path, kept: Kept) -> None:
        roots = [make_images(tmp_path / name, COLOURS, 20) for name in ("a", "b", "c")]
        one = 60 * 12 * 12 * 3
        for age, root in enumerate(roots[:2]):
            before = kept.segments()
            task(root, kept.cache())
            (new,) = set(kept.segments()).difference(before)
            os.utime(new, (1000 + age, 1000 + age))
        homes = {path.parent: None for path in kept.segments()}
        assert len(homes) == 2
        task(roots[0], kept.cache())  # used again: b is now the oldest
        kept.said()
        task(roots[2], kept.cache(limit_bytes=int(2.5 * one)))
        kept.said()
        task(roots[0], kept.cache())
        assert "as decoded earlier" in kept.said()
        task(roots[1], kept.cache())
        assert "60 images decoded in" in kept.said()

    def test_what_never_fits_takes_no_other_place(self, photos: Path, kept: Kept) -> None:
        task(photos, kept.cache())
        before = kept.cache().files()
        with pytest.raises(CacheError, match="do not fit"):
            kept.cache(limit_bytes=100_000).make_room(100_001)
        assert kept.cache().files() == before

    def test_clearing_down_to_some_bytes_keeps_what_was_used_last(self, kept: Kept) -> None:
        cache = kept.cache()
        for age, what in enumerate(("old", "new")):
            cache.remember(what, b"12345")
            for file in cache.files():
                if file.used > 2000:  # the one just written
                    os.utime(file.path, (1000 + age, 1000 + age))
        (size,) = {file.num_bytes for file in cache.files()}
        assert cache.clear(2 * size) == (0, 2 * size)
        assert cache.clear(size) == (size, size)
        assert (cache.recall("old"), cache.recall("new")) == (None, b"12345")

    def test_it_is_for_its_owner_alone(self, photos: Path, kept: Kept) -> None:
        task(photos, kept.cache())
        assert kept.folder.stat().st_mode & 0o777 == 0o700

    def test_what_is_in_use_stays(self, tmp_path: Path, kept: Kept) -> None:
        roots = [make_images(tmp_path / name, COLOURS, 20) for name in ("a", "b")]
        one = 60 * 12 * 12 * 3
        held = task(roots[0], kept.cache())
        assert_same(task(roots[1], kept.cache(limit_bytes=int(1.5 * one))), task(roots[1]))
        assert "in use" in kept.said()
        assert kept.cache().clear()[1] == sum(path.stat().st_size for path in kept.segments()) > 0
        assert_same(held, task(roots[0]))
        del held
        assert kept.cache().clear()[1] == 0
        assert kept.segments() == []

    def test_what_others_keep_in_the_same_folder_is_neither_counted_nor_removed(self, photos: Path, kept: Kept) -> None:
        task(photos, kept.cache())
        num_own = len(kept.cache().files())
        shelf, key = kept.segments()[0].parent.name, "0123456789abcdef" * 2
        theirs = [
            "measured/results.csv",
            f"measured/{key}.csv",
            "measured/.results.csv.1.tmp",
            "shards/train/t-0000.tar",
            f"shards/{key}/t-0000.tar",
            "shards/train/rows.npy",
            f"images/{shelf}/holiday.images",
            "images/train/00000000000000000001-000000.images",
            "images/train/.begun.tmp",
        ]
        ours = [f"shards/{key}/rows.npy", f"shards/{key}/.names.npy.1.tmp", f"measured/.{key}.1.tmp"]
        for name in (*theirs, *ours):
            (kept.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (kept.folder / name).write_bytes(bytes(1000))
        (kept.folder / "shards" / "empty").mkdir()
        (kept.folder / "images" / "empty").mkdir()
        cache = kept.cache(limit_bytes=1)
        assert {str(file.path.relative_to(kept.folder)) for file in cache.files()}.isdisjoint(theirs)
        assert len(cache.files()) == num_own + len(ours)
        cache.make_room(1)
        assert cache.files() == []
        assert cache.clear() == (0, 0)
        left = {str(path.relative_to(kept.folder)) for path in kept.folder.rglob("*") if path.is_file()}
        assert left - {f"images/{shelf}/.lock"} == set(theirs)
        assert (kept.folder / "shards" / "empty").is_dir()
        assert (kept.folder / "images" / "empty").is_dir()

    def test_a_full_disk_is_told_and_passed_over(self, photos: Path, kept: Kept) -> None:
        with files_of_at_most(5000):
            found = task(photos, kept.cache())
        said = kept.said()
        assert "cannot be kept" in said
        assert said.count("\n") == 0
        assert [path for path in kept.folder.glob("images/*/*") if path.stat().st_size] == []
        assert_same(found, task(photos))

    def test_a_folder_that_cannot_be_made_is_told_and_passed_over(self, photos: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        kept = Kept(tmp_path / "file")
        assert_same(task(photos, kept.cache()), task(photos))
        assert "going on without it" in kept.said()


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestMeasured:
    def test_a_value_is_remembered_until_it_is_damaged(self, kept: Kept) -> None:
        cache = kept.cache()
        assert cache.recall("speed of a") is None
        cache.remember("speed of a", b"12")
        cache.remember("speed of a", b"13")
        assert (cache.recall("speed of a"), cache.recall("speed of b")) == (b"13", None)
        (path,) = kept.folder.glob("measured/*")
        os.utime(path, (1, 1))
        assert cache.recall("speed of a") == b"13"
        assert path.stat().st_mtime > 1, "it was used"
        flip(path, -1)
        assert cache.recall("speed of a") is None

    def test_a_key_is_of_name_size_and_time(self, photos: Path) -> None:
        (first, second, *_), again = (Folder(name="folder", root=str(photos)).open().records for _ in range(2))
        assert key_of(first) == key_of(again[0])
        assert key_of(first) != key_of(second)
        path = first.image
        assert isinstance(path, Path)
        before, status = key_of(first), path.stat()
        assert key_of(replace(first, name="other")) != before
        os.utime(path, ns=(1, 1))
        assert key_of(first) != before
        path.write_bytes(path.read_bytes() + b"0")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert key_of(first) != before
        path.unlink()
        assert key_of(first) != key_of(first)


@pytest.mark.parametrize("is_kept", [True, False])
def test_images_decoded_in_threads_are_those_decoded_without(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    root = make_images(tmp_path / "photos", COLOURS, 70)
    (root / "red" / "069.png").write_bytes(b"not an image")
    found, used = [], []
    attempt = ptft.data.images._attempt

    def noted(*arguments: Any) -> Any:
        used[-1].add(threading.get_ident())
        return attempt(*arguments)

    monkeypatch.setattr("ptft.data.images._attempt", noted)
    for quick, name in ((0.0, "threads"), (float("inf"), "none")):
        monkeypatch.setattr("ptft.data.images._QUICK", quick)
        used.append(set[int]())
        cache = Kept(tmp_path / name).cache() if is_kept else None
        found.append(task(root, cache, on_bad_image="skip", max_bad_images=1))
    assert_same(*found)
    assert len(found[0].bad_images) == 1
    assert len(used[0]) > 1
    assert used[1] == {threading.get_ident()}
