"""Decoding into a task: sizes, channels, bad images, statistics, fingerprint; resident and on demand alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from making import COLOURS, make_images
from PIL import Image
from pydantic import ValidationError

import ptft.data.images
from ptft.data.cache import Cache
from ptft.data.images import Images
from ptft.data.labelling import Numbers
from ptft.data.records import PARTS, Part, Record, Source
from ptft.data.sources import Folder
from ptft.data.task import Format, Task, listing_of, prepare
from ptft.errors import DataError, UsageError


def folder(root: Path, **keys: object) -> Folder:
    return Folder.model_validate({"name": "folder", "root": str(root)} | keys)


def task(root: Path, **keys: object) -> Task:
    config = folder(root, **keys)
    return prepare(config.open(), config, seed=0)


def test_images_keep_their_own_size_when_they_agree(photos: Path) -> None:
    found = task(photos)
    assert (found.format.image_size, found.format.in_channels) == (12, 3)
    assert found.class_counts("train") == [14, 14, 14]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(("width", "height"), [(30, 20), (16, 12), (12, 16)])
def test_sizes_that_differ_are_named_and_an_image_size_mends_it(
    photos: Path, tmp_path: Path, width: int, height: int, cached: bool
) -> None:
    """Also where one side is that of the others."""
    Image.new("RGB", (width, height)).save(photos / "red" / "odd.png")
    config = folder(photos)
    with pytest.raises(DataError, match=rf"red/odd\.png is {width}x{height}.*Set data\.image_size"):
        prepare(config.open(), config, seed=0, cache=Cache(tmp_path / "cache") if cached else None)
    assert task(photos, image_size=16).train.images.take(torch.tensor([0])).shape == (1, 3, 16, 16)


def test_images_that_are_not_square_ask_for_a_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(4):
            Image.new("RGB", (20, 10)).save(tmp_path / name / f"{index}.png")
    with pytest.raises(DataError, match="20x10 pixels, not square"):
        task(tmp_path)


def test_grey_images_make_one_channel_and_a_single_coloured_one_makes_three(photos: Path, tmp_path: Path) -> None:
    grey = tmp_path / "grey"
    for path in photos.rglob("*.png"):
        (grey / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("L").save(grey / path.parent.name / path.name)
    assert task(grey).format.in_channels == 1
    Image.new("RGB", (12, 12), (255, 0, 0)).save(grey / "red" / "z.png")
    assert task(grey).format.in_channels == 3


def test_statistics_are_those_of_the_training_pixels(photos: Path) -> None:
    found = task(photos)
    pixels = found.train.images.take(torch.arange(len(found.train))).double() / 255
    assert found.format.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    assert found.format.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist())
    normalised = found.format.normalize(found.train.images.take(torch.arange(len(found.train))))
    assert normalised.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (normalised.var(dim=(0, 2, 3)) - 1).abs().max() < 1e-2


def test_the_fingerprint_is_of_training_pixels_and_labels(photos: Path) -> None:
    before = task(photos).fingerprint
    assert task(photos).fingerprint == before
    assert task(photos, split_seed=1).fingerprint != before
    trained = photos / task(photos).train.names[0]
    pixels = np.asarray(Image.open(trained).convert("RGB")).copy()
    pixels[0, 0] ^= 255
    Image.fromarray(pixels).save(trained.with_suffix(".png"))
    assert task(photos, on_bad_image="skip").fingerprint != before


def test_bad_images_are_named_skipped_up_to_the_maximum_or_an_error(photos: Path) -> None:
    for index in range(3):
        (photos / "red" / f"bad{index}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"red/bad\d\.png.*on_bad_image=skip"):
        task(photos)
    found = task(photos, on_bad_image="skip")
    assert len(found.bad_images) == 3
    assert not any("bad" in name for examples in found.parts.values() for name in examples.names)
    with pytest.raises(DataError, match=r"allows 2"):
        task(photos, on_bad_image="skip", max_bad_images=2)


def test_a_class_with_only_bad_images_is_an_error(photos: Path) -> None:
    for path in (photos / "red").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="no readable training image of class 'red'"):
        task(photos, on_bad_image="skip")


def test_images_decoded_on_demand_are_those_in_memory(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = task(photos, image_size=10)
    monkeypatch.setattr(ptft.data.images, "available_memory_bytes", lambda: 1000)
    streamed = task(photos, image_size=10)
    assert type(streamed.train.images) is not type(resident.train.images)
    for part in ("train", "validation", "test"):
        rows = torch.arange(len(resident.parts[part])).flip(0)
        assert torch.equal(streamed.parts[part].images.take(rows), resident.parts[part].images.take(rows))
        assert torch.equal(streamed.parts[part].labels, resident.parts[part].labels)
    assert (streamed.format, streamed.fingerprint) == (resident.format, resident.fingerprint)


def test_bad_images_and_grey_ones_are_the_same_on_demand(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in photos.rglob("*.*"):
        Image.open(path).convert("L").save(path)
    (photos / "red" / "bad.png").write_bytes(b"no image")
    resident = task(photos, on_bad_image="skip")
    monkeypatch.setattr(ptft.data.images, "available_memory_bytes", lambda: 1000)
    streamed = task(photos, on_bad_image="skip")
    assert streamed.bad_images == resident.bad_images
    assert streamed.format == resident.format
    assert streamed.format.in_channels == 1


def test_the_fingerprint_does_not_depend_on_the_size_images_are_brought_to(photos: Path) -> None:
    assert task(photos, image_size=8).fingerprint == task(photos, image_size=16).fingerprint


def test_large_images_without_a_size_are_refused_at_the_first_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (400, 300)).save(tmp_path / name / "0.png")
        (tmp_path / name / "1.png").write_bytes(b"never reached")
    with pytest.raises(DataError, match=r"a/0\.png is 400x300 pixels, not square"):
        task(tmp_path, split_seed=0)


def whole(images: Images) -> torch.Tensor:
    return images.take(torch.arange(len(images)).flip(0))


@pytest.mark.parametrize("memory", [None, 1000])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_larger_images_come_besides_and_everything_else_stays(
    photos: Path, monkeypatch: pytest.MonkeyPatch, memory: int | None, mode: str
) -> None:
    for path in photos.rglob("*.*"):
        Image.open(path).convert(mode).resize((40, 30)).save(path)
    (photos / "blue" / "000.jpg").write_bytes(b"no image")
    if memory is not None:
        monkeypatch.setattr(ptft.data.images, "available_memory_bytes", lambda: memory)
    plain, found = (task(photos, image_size=16, on_bad_image="skip", store_size=size) for size in (None, 24))
    alone = task(photos, image_size=24, on_bad_image="skip")
    for name in ("classes", "format", "fingerprint", "listing", "held_out", "bad_images"):
        assert getattr(found, name) == getattr(plain, name), name
    for part, examples in plain.parts.items():
        assert torch.equal(whole(found.parts[part].images), whole(examples.images))
    assert found.train.larger is not None
    assert torch.equal(whole(found.train.larger), whole(alone.train.images))
    assert [examples.larger for part, examples in found.parts.items() if part != "train"] == [None, None]
    some = found.train.chosen(torch.tensor([5, 2]))
    assert torch.equal(some.to_augment.take(torch.tensor([1])), found.train.larger.take(torch.tensor([2])))


def test_a_store_of_the_size_of_the_images_is_none(photos: Path) -> None:
    found = task(photos, image_size=16, store_size=16).train
    assert found.larger is None
    assert found.to_augment is found.images


def test_a_store_that_does_not_suit_the_images_is_refused(photos: Path) -> None:
    with pytest.raises(ValidationError, match="store_size is 15, less than the image_size of 16"):
        task(photos, image_size=16, store_size=15)
    with pytest.raises(UsageError, match=r"Set data\.image_size too"):
        task(photos, store_size=24)
    config = folder(photos, store_size=24)
    with pytest.raises(UsageError, match=r"data\.store_size is 24, less than the image_size of 32"):
        prepare(config.open(), config, seed=0, known=Format(32, 3, (0.5,) * 3, (0.2,) * 3))


def test_labels_follow_the_names_of_the_files(tmp_path: Path) -> None:
    root = make_images(tmp_path / "a", COLOURS, 6)
    found = task(root, classes=["red", "blue", "green"])
    for part in found.parts.values():
        for name, label in zip(part.names, part.labels.tolist(), strict=True):
            assert name.startswith(("red/", "blue/", "green/")[label])


def made(root: Path, labels: str = "aabbaabb", classes: tuple[str, ...] = ("a", "b")) -> Source:
    """Eight images, each of one grey level, in train, validation and test; their targets are those levels."""
    root.mkdir(exist_ok=True)
    records = []
    for index, label in enumerate(labels):
        path = root / f"{index}.png"
        Image.new("L", (8, 8), 20 * index).save(path)
        part: Part = "train" if index < 4 else "validation" if index < 6 else "test"
        records.append(Record(path, label, part, path.name, targets=(float(index),)))
    return Source(records, classes, "made")


def test_every_part_has_its_own_images(tmp_path: Path) -> None:
    found = prepare(made(tmp_path / "a"), folder(tmp_path), seed=0)
    levels = {part: found.parts[part].images.take(torch.arange(len(found.parts[part])))[:, 0, 0, 0] for part in PARTS}
    assert {part: [int(level) // 20 for level in found] for part, found in levels.items()} == {
        "train": [0, 1, 2, 3],
        "validation": [4, 5],
        "test": [6, 7],
    }


def test_the_fingerprint_knows_labels_and_class_names_and_no_held_out_image(tmp_path: Path) -> None:
    def prints(source: Source) -> tuple[str, str]:
        found = prepare(source, folder(tmp_path), seed=0)
        return found.fingerprint, found.held_out

    before, held_out = prints(made(tmp_path / "a"))
    assert prints(made(tmp_path / "a", "abbaaabb"))[0] != before
    assert prints(made(tmp_path / "a", "aaccaacc", ("a", "c")))[0] != before
    source = made(tmp_path / "a")
    Image.new("L", (8, 8), 255).save(tmp_path / "a" / "7.png")
    assert prints(source)[0] == before
    assert prints(source)[1] != held_out
    source = made(tmp_path / "a")
    Image.new("L", (8, 8), 255).save(tmp_path / "a" / "0.png")
    assert prints(source)[0] != before
    assert prints(source)[1] == held_out


def test_what_was_not_read_has_no_digest(tmp_path: Path) -> None:
    found = prepare(made(tmp_path / "a"), folder(tmp_path), seed=0, read=("train", "validation"))
    assert (found.held_out, found.parts.keys()) == ("", {"train", "validation"})


def test_a_listing_is_of_names_and_parts_in_any_order(tmp_path: Path) -> None:
    first, second, *_ = made(tmp_path / "a").records
    here = listing_of({"train": [first, second], "validation": [], "test": []})
    assert here == listing_of({"train": [second, first], "validation": [], "test": []})
    assert here != listing_of({"train": [first], "validation": [second], "test": []})
    assert here != listing_of({"train": [first, replace(second, name="x")], "validation": [], "test": []})


def test_the_scale_of_targets_is_that_of_the_training_images(tmp_path: Path) -> None:
    source = replace(made(tmp_path / "a"), classes=("level",))
    scale = prepare(source, folder(tmp_path), seed=0, labelling=Numbers()).scale
    assert scale is not None
    assert scale.mean == (1.5,)
    assert scale.std == pytest.approx((np.std([0, 1, 2, 3]),))


def test_the_sources_format_is_kept_but_for_what_the_config_asks(photos: Path) -> None:
    known = Format(16, 1, (0.25,), (0.5,))

    def format_of(**keys: object) -> Format:
        config = folder(photos, **keys)
        return prepare(config.open(), config, seed=0, in_channels=3, known=known).format

    assert format_of() == known
    assert format_of(image_size=20) == replace(known, image_size=20)
    assert format_of(mean=[0.1], std=[0.2]) == replace(known, mean=(0.1,), std=(0.2,))


def test_images_of_one_level_have_a_deviation_to_divide_by(tmp_path: Path) -> None:
    for level in (3, 7, 100):  # of 3 and 7 the rounded variance is below 0
        source = made(tmp_path / "a")
        for record in source.records:
            Image.new("L", (8, 8), level).save(tmp_path / "a" / record.name)
        found = prepare(source, folder(tmp_path), seed=0).format
        assert (found.mean[0], found.std) == (pytest.approx(level / 255), (1e-3,))
