"""`ptft pack`: a source as tar shards that train to the same bits, and shards that are held against their manifest."""

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from making import COLOURS, Ptft, make_images
from making_shards import hub, task_of
from PIL import Image

from ptft import checkpoint
from ptft.commands.pack import pack
from ptft.data.sources import Folder
from ptft.errors import DataError, StoppedError
from ptft.report.console import Console

pytestmark = pytest.mark.usefixtures("cache")


def differing(first: Path, second: Path) -> list[str]:
    """Names of tensors that are not the same bits in two checkpoints."""
    a, b = checkpoint.read(first).tensors, checkpoint.read(second).tensors
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def folder_config(root: Path, **keys: object) -> Folder:
    return Folder.model_validate({"name": "folder", "root": str(root)} | keys)


def test_a_packed_folder_trains_to_the_same_bits_as_the_folder(ptft: Ptft, config: Path) -> None:
    assert ptft("pack", config, "--out", "packed", "--images-per-shard", "7").path == Path("packed")
    shards = Path("shards.yaml")
    shards.write_text(
        config.read_text().replace('"name": "folder", "root": "photos"', '"name": "hub", "path": "packed"')
    )
    expected = ptft("pretrain", config, "--out", "a").path
    data = checkpoint.read(expected).metadata.lineage[-1].data
    for read, more in (("memory", ()), ("mapped", ("--set", "data.image_size=12"))):
        found = ptft("pretrain", shards, "--out", read, "--set", f"data.read={read}", *more).path
        assert differing(expected, found) == []
        seen = checkpoint.read(found).metadata.lineage[-1].data
        assert (seen.fingerprint, seen.listing, seen.held_out) == (data.fingerprint, data.listing, data.held_out)
    assert differing(expected, ptft("pretrain", shards, "--out", "c", "--set", "seed=1").path)


def test_the_same_images_give_the_same_bytes_and_a_changed_pixel_others(ptft: Ptft, photos: Path) -> None:
    for out in ("a", "b"):
        ptft("pack", "--data", photos, "--out", out, "--images-per-shard", "16")
        for path in photos.rglob("*.*"):
            path.touch()
    assert contents(Path("a")) == contents(Path("b"))
    assert len(contents(Path("a"))) == 5
    Image.new("RGB", (12, 12), "red").save(photos / "red" / "001.png")
    ptft("pack", "--data", photos, "--out", "c", "--images-per-shard", "16")
    assert sum(contents(Path("a"))[name] != contents(Path("c"))[name] for name in contents(Path("a"))) == 2


def test_packing_a_pack_gives_the_same_shards(ptft: Ptft, photos: Path) -> None:
    ptft("pack", "--data", photos, "--out", "a", "--images-per-shard", "16")
    assert ptft("pack", "--data", "a", "--out", "b", "--images-per-shard", "16").code == 0
    first, second = contents(Path("a")), contents(Path("b"))
    assert {name for name in first if first[name] != second[name]} == {"manifest.json"}  # it says what was packed


def test_the_manifest_counts_what_is_in_the_shards(ptft: Ptft, tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        make_images(tmp_path / "parts" / part, COLOURS, count)
    told = ptft("pack", "--data", "parts", "--out", "packed", "--images-per-shard", "10", "--json").json
    manifest = json.loads(Path("packed/manifest.json").read_text())
    assert [shard["file"] for shard in manifest["shards"]] == [
        *("test-00000.tar", "train-00000.tar", "train-00001.tar", "validation-00000.tar")
    ]
    assert manifest["counts"] == told["counts"]
    assert told["counts"]["train"] == dict.fromkeys(COLOURS, 6)
    assert told["num_images"] == 33
    with tarfile.open("packed/validation-00000.tar") as archive:
        names = archive.getnames()
        facts = json.loads(archive.extractfile(names[1]).read())  # type: ignore[union-attr]
    assert len(names) == 12
    assert facts["name"].startswith(f"val/{facts['label']}/")
    assert Path(names[0]).stem == Path(names[1]).stem
    found = task_of(hub(Path("packed")))
    assert {part: found.class_counts(part) for part in found.parts} == {
        "train": [6, 6, 6],
        "validation": [2, 2, 2],
        "test": [3, 3, 3],
    }


def test_classes_keep_the_order_of_their_config(ptft: Ptft, photos: Path) -> None:
    ptft("pack", "--data", photos, "--out", "packed", "--set", "data.classes=[red, blue]")
    assert task_of(hub(Path("packed"))).classes == ("red", "blue")


def test_images_without_a_file_become_png_of_the_same_pixels(ptft: Ptft, tmp_path: Path) -> None:
    data = {"data": {"name": "torchvision", "dataset": "FakeData", "classes": ["0", "1"]}}
    (tmp_path / "fake.yaml").write_text(json.dumps(data))
    assert ptft("pack", "fake.yaml", "--out", "packed").code == 0
    from ptft.data.sources import Torchvision

    before = task_of(Torchvision.model_validate(data["data"]))
    after = task_of(hub(Path("packed")))
    rows = torch.arange(len(before.train))
    assert torch.equal(before.train.images.take(rows), after.train.images.take(rows))
    assert list(before.train.names) == list(after.train.names)


def test_nothing_is_written_over(ptft: Ptft, photos: Path) -> None:
    Path("packed").mkdir()
    refused = ptft("pack", "--data", photos, "--out", "packed")
    assert refused.code == 2
    assert refused.err.startswith("ptft: packed is there already.")
    assert list(Path("packed").iterdir()) == []
    inside = ptft("pack", "--data", photos, "--out", photos / "shards")
    assert inside.code == 2
    assert "would lie among the images" in inside.err


def test_what_is_missing_is_said(ptft: Ptft, photos: Path) -> None:
    assert "give a folder for the shards: --out DIR" in ptft("pack", "--data", photos).err
    assert "give a CONFIG, or --data DIR" in ptft("pack", "--out", "packed").err


def test_several_classes_for_an_image_are_refused(ptft: Ptft, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({"data": {"name": "csv", "path": "x.csv"}, "task": {"name": "multi-label"}}))
    refused = ptft("pack", config, "--out", "packed")
    assert refused.code == 2
    assert "task.name: multi-label: shards hold one class for each image" in refused.err


def test_a_bad_image_ends_packing_and_leaves_nothing_or_is_left_out(ptft: Ptft, photos: Path) -> None:
    (photos / "red" / "001.png").write_bytes(b"no image")
    before = set(Path().iterdir())
    ended = ptft("pack", "--data", photos, "--out", "packed")
    assert ended.code == 3
    assert "red/001.png: cannot be read: not an image file" in ended.err
    assert set(Path().iterdir()) == before
    skipped = ptft("pack", "--data", photos, "--out", "packed", "--set", "data.on_bad_image=skip", "--json")
    assert skipped.json["num_images"] == 59
    assert "left out: red/001.png" in skipped.err


@pytest.mark.parametrize("calls", [1, 100])
def test_a_signal_leaves_nothing_behind(photos: Path, tmp_path: Path, calls: int) -> None:
    left = calls

    def check_stop() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoppedError(15)

    config = folder_config(photos)
    before = set(tmp_path.iterdir())
    with pytest.raises(StoppedError):
        pack(config.open(), config, tmp_path / "out", images_per_shard=9, console=Console(), check_stop=check_stop)
    assert set(tmp_path.iterdir()) == before
    left = 10_000
    pack(config.open(), config, tmp_path / "out", images_per_shard=9, console=Console(), check_stop=check_stop)
    assert (tmp_path / "out" / "manifest.json").is_file()


class TestDamage:
    @pytest.fixture
    def packed(self, ptft: Ptft, photos: Path) -> Path:
        return ptft("pack", "--data", photos, "--out", "packed", "--images-per-shard", "20").path

    def test_a_flipped_bit_anywhere_in_a_shard_is_found(self, packed: Path) -> None:
        shard = packed / "images-00001.tar"
        whole = shard.read_bytes()
        for place in np.random.default_rng(0).integers(0, len(whole), 20).tolist():
            changed = bytearray(whole)
            changed[place] ^= 4
            shard.write_bytes(changed)
            with pytest.raises(DataError, match=r"images-00001\.tar: damaged: not the bytes in the manifest"):
                hub(packed).open()
        shard.write_bytes(whole)
        assert len(hub(packed).open().records) == 60

    def test_a_missing_and_a_cut_shard_are_told_before_anything_is_read(self, packed: Path) -> None:
        shard = packed / "images-00001.tar"
        content = shard.read_bytes()
        shard.write_bytes(content[:-512])
        with pytest.raises(DataError, match=rf"{len(content) - 512:,} bytes, {len(content):,} in the manifest"):
            hub(packed).open()
        shard.unlink()
        with pytest.raises(DataError, match=r"shard images-00001\.tar of the manifest is missing"):
            hub(packed).open()

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"counts": {"images": {"blue": 19, "green": 21, "red": 20}}}, "other numbers of images"),
            ({"format": "ptft shards 2"}, "not a manifest that `ptft pack` wrote"),
            ({"shards": "all"}, "not a manifest that `ptft pack` wrote"),
        ],
    )
    def test_a_manifest_that_does_not_fit_is_refused(
        self, packed: Path, change: dict[str, object], sentence: str
    ) -> None:
        path = packed / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(DataError, match=sentence):
            hub(packed).open()

    def test_a_manifest_cannot_lead_out_of_its_folder(self, packed: Path) -> None:
        path = packed / "manifest.json"
        path.write_text(path.read_text().replace('"images-00000.tar"', '"../images-00000.tar"'))
        (packed / "images-00000.tar").rename(packed.parent / "images-00000.tar")
        with pytest.raises(DataError, match="of the manifest is missing"):
            hub(packed).open()


def test_two_images_of_one_name_in_two_shards_are_refused(ptft: Ptft, photos: Path, cache: Path) -> None:
    ptft("pack", "--data", photos, "--out", "packed", "--images-per-shard", "30")
    first, second = sorted(Path("packed").glob("*.tar"))
    twice = Path("twice")
    twice.mkdir()
    for number, path in enumerate((first, first)):
        with tarfile.open(path) as source, tarfile.open(twice / f"{number}.tar", "w") as target:
            for member in source:
                target.addfile(member, source.extractfile(member))
    manifest = json.loads(Path("packed/manifest.json").read_text())
    text = json.dumps(manifest)
    for number, path in enumerate((first, second)):
        text = text.replace(path.name, f"{number}.tar")
        old = hashlib.sha256(path.read_bytes()).hexdigest()
        text = text.replace(old, hashlib.sha256((twice / f"{number}.tar").read_bytes()).hexdigest())
    (twice / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"1\.tar: an image is called .*, as one in a file before it"):
        hub(twice).open()
