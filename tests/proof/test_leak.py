"""`ptft leak` and the check before the final test: planted images are named, clean data is called clean."""

import json
import math
import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch
from making import COLOURS, Ptft, make_images, write_config
from PIL import Image, ImageOps

from ptft import checkpoint
from ptft.checkpoint import Ancestor, DataSeen
from ptft.data.cache import Cache
from ptft.data.fingerprints import NUM_BYTES, fingerprints_of
from ptft.data.images import ResidentImages
from ptft.data.sources import Folder
from ptft.data.task import Examples, prepare
from ptft.proof.leak import LeakCheck, Pair, SeenSet, closest_in_features, seen_sets
from ptft.transfer import seen as seen_module


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Three classes of noisy images, 12 for training and 6 others for the test."""
    folder = tmp_path / "photos"
    make_images(folder / "all", COLOURS, 18)
    for name in COLOURS:
        paths = sorted((folder / "all" / name).iterdir())
        for part, members in (("train", paths[:12]), ("test", paths[12:])):
            (folder / part / name).mkdir(parents=True)
            for path in members:
                path.rename(folder / part / name / path.name)
    shutil.rmtree(folder / "all")
    return folder


@pytest.fixture
def config(tmp_path: Path, parts: Path) -> Path:
    return write_config(tmp_path / "run.yaml", data={"root": "photos", "validation": 0.0}, train={"steps": 6})


def plant(parts: Path) -> None:
    """A copy, a mirrored copy and a lighter copy of training images, under other names, into the test."""
    shutil.copy(parts / "train/red/000.jpg", parts / "test/red/copy.jpg")
    with Image.open(parts / "train/red/001.png") as image:
        ImageOps.mirror(image).save(parts / "test/red/mirrored.png")
    with Image.open(parts / "train/blue/003.png") as image:
        image.point(lambda level: min(255, level + 20)).save(parts / "test/blue/lighter.png")


PLANTED = {
    ("test/red/copy.jpg", "exact", "train/red/000.jpg"),
    ("test/red/mirrored.png", "near", "train/red/001.png"),
    ("test/blue/lighter.png", "near", "train/blue/003.png"),
}


def test_a_run_on_clean_data_says_so(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--json", page=True)
    assert "leak check: 0 of 18 test images seen in training (exact or near)" in result.err
    assert result.json["leak"] == {"num_test": 18, "num_seen": 0, "pairs": [], "unknown": []}
    page = Path("runs/run/report.html").read_text()
    assert "0 of 18 test images were seen in training" in page
    assert "leans on" not in page


def test_a_run_names_planted_images_before_the_final_test(ptft: Ptft, config: Path, parts: Path) -> None:
    plant(parts)
    result = ptft("pretrain", config, "--json", page=True)
    assert result.code == 0
    assert "leak check: 3 of 21 test images seen in training (1 exact, 2 near)" in result.err
    assert "the test score leans on images that were trained on: test/red/copy.jpg, " in result.err
    assert {(pair["test"], pair["kind"], pair["seen"]) for pair in result.json["leak"]["pairs"]} == PLANTED
    assert json.loads(Path("runs/run/summary.json").read_text())["leak"] == result.json["leak"]
    page = Path("runs/run/report.html").read_text()
    assert "3 test images were seen in training: the accuracy leans on that" in page
    assert "3 of 21 test images were seen in training, exactly or nearly" in page
    assert all(f">{test}</" in page for test, _, _ in PLANTED)


def test_the_check_can_be_turned_off(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--json", "--set", "data.leak_check=false")
    assert "leak check" not in result.err
    assert result.json["leak"] is None


@pytest.mark.parametrize("error", [MemoryError("none left"), RuntimeError("no kernel"), ValueError("odd")])
def test_a_check_that_cannot_be_made_does_not_fail_a_run_that_is_trained(
    ptft: Ptft, config: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("ptft.run.conclusion.check_task", fail)
    result = ptft("pretrain", config, "--json")
    assert (result.code, result.json["leak"]) == (0, None)
    assert f"the leak check could not be made: {error}" in result.err
    assert json.loads(Path("runs/run/status.json").read_text())["state"] == "done"


def test_leak_tells_pairs_and_the_accuracy_with_and_without(ptft: Ptft, config: Path, parts: Path) -> None:
    plant(parts)
    path = ptft("pretrain", config).path
    told = ptft("leak", path, "--pictures", "pairs.png")
    assert told.code == 0
    assert told.out.startswith("3 of 21 test images seen in training (1 exact, 2 near): ")
    assert "n = 21); without them " in told.out
    assert "n = 18)" in told.out
    for test, kind, seen in PLANTED:
        assert any(line.split()[:2] == [test, kind] and seen in line for line in told.err.splitlines())
    found = ptft("leak", path, "--json").json
    assert {(pair["test"], pair["kind"], pair["seen"]) for pair in found["pairs"]} == PLANTED
    assert found["scores"]["num_examples"] == 21
    assert found["scores_without_seen"]["num_examples"] == 18
    assert len(found["lookalikes"]) == 10
    assert not {pair["test"] for pair in found["lookalikes"]} & {name for name, _, _ in PLANTED}
    with Image.open("pairs.png") as sheet:
        assert sheet.width == 4 * 200


def test_pictures_replace_no_file_but_their_own(ptft: Ptft, config: Path, parts: Path) -> None:
    path = ptft("pretrain", config).path
    digest = path.read_bytes()
    photo = next(parts.rglob("*.png"))
    pixels = photo.read_bytes()
    for own in (path, photo):
        refused = ptft("leak", path, "--pictures", own)
        assert (refused.code, refused.out) == (2, "")
        assert f"{own} is there and is not made by ptft leak. Choose another with --pictures." in refused.err
    assert (path.read_bytes(), photo.read_bytes()) == (digest, pixels)
    assert ptft("leak", path, "--pictures", "none/pairs.png").code == 2
    for _ in range(2):
        assert ptft("leak", path, "--pictures", "pairs.png").code == 0


def test_the_page_of_leak_has_every_pair_as_picture_and_row(ptft: Ptft, config: Path, parts: Path) -> None:
    plant(parts)
    path = ptft("pretrain", config).path
    Path("notes.html").write_text("mine")
    refused = ptft("leak", path, "--page", "notes.html")
    assert (refused.code, refused.out) == (2, "")
    assert "notes.html is there and is not a page of ptft. Choose another with --page." in refused.err
    assert ptft("leak", path, "--page", "leak.html").code == 0
    page = Path("leak.html").read_text()
    assert "3 of 21 test images were seen in training" in page
    assert page.count("<img ") == 3 + 10
    for test, _, seen in PLANTED:
        assert f'alt="{test}; beside it {seen} of ' in page
        assert f">{test}</" in page
    assert "without those seen" in page
    assert f"ptft leak {path} --page leak.html" in page
    assert ptft("leak", path, "--page", "leak.html").code == 0, "a page of ours may be replaced"


def test_leak_on_the_folder_of_the_run_is_leak_on_its_own_test_part(ptft: Ptft, config: Path, parts: Path) -> None:
    path = ptft("pretrain", config).path
    assert ptft("leak", path, "--data", parts).out == ptft("leak", path).out


def test_fingerprints_of_the_source_travel_and_find_its_images_without_its_data(
    ptft: Ptft, config: Path, parts: Path, tmp_path: Path
) -> None:
    source = ptft("pretrain", config).path
    target = make_images(tmp_path / "target", {"violet": (180, 140, 220), "yellow": (220, 210, 60)}, 15)
    (target / "test/violet").mkdir(parents=True)
    (target / "test/yellow").mkdir()
    (target / "train").mkdir()
    for name in ("violet", "yellow"):
        for path in sorted((target / name).iterdir())[:4]:
            path.rename(target / "test" / name / path.name)
        (target / name).rename(target / "train" / name)
    with Image.open(parts / "train/green/002.jpg") as image:
        ImageOps.mirror(image).save(target / "test/violet/stolen.png")
    shutil.rmtree(parts)
    settings = ("--set", "train.steps=2", "--set", "train.precision=fp32", "--set", "device=cpu")
    result = ptft("finetune", "--from", source, "--data", target, *settings)
    assert result.code == 0, result.err
    assert "leak check: 1 of 9 test images seen in training (0 exact, 1 near)" in result.err
    assert {len(prints) for prints in checkpoint.read(result.path).part("seen").values()} == {36, 20}
    told = ptft("leak", result.path)
    assert any(line.split()[1:2] == ["near"] for line in told.err.splitlines() if "stolen.png" in line)
    assert "training image " in told.err
    assert "folder photos (pretrain)" in told.err
    before = ptft("leak", source, "--data", target)
    assert before.out.startswith("1 of 9 test images seen in training (0 exact, 1 near)")
    assert "right" not in before.out  # the source does not know these classes


def test_a_checkpoint_without_fingerprints_is_read_and_what_is_not_known_is_said(
    ptft: Ptft, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checkpoint.read(ptft("pretrain", config).path)
    bare = {name: tensor for name, tensor in found.tensors.items() if not name.startswith("seen.")}
    assert len(bare) == len(found.tensors) - 1
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", 1)
        checkpoint.write(tmp_path / "first.pt", found.metadata, bare)
    assert torch.load(tmp_path / "first.pt", weights_only=True)["version"] == 1
    other = make_images(tmp_path / "other", {"red": COLOURS["red"], "blue": COLOURS["blue"]}, 3)
    told = ptft("leak", "first.pt", "--data", other)
    assert told.code == 0, told.err
    assert "was written before fingerprints travelled" in told.err
    assert "not known what was in folder photos (pretrain)" in told.out


def test_an_absent_folder_and_an_absent_checkpoint_are_named(ptft: Ptft, config: Path) -> None:
    path = ptft("pretrain", config).path
    assert ptft("leak", path, "--data", "nowhere").code == 3
    assert ptft("leak", "nowhere.pt").code == 4


def test_weights_to_use_hold_no_fingerprints(ptft: Ptft, config: Path) -> None:
    found = checkpoint.read(ptft("pretrain", config).path)
    (prints,) = found.part("seen").values()
    assert prints.shape == (36, NUM_BYTES)
    assert not any("seen" in name for name in found.weights())


def test_beyond_the_limit_the_oldest_sets_stay_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        fingerprint = "c" * 64

    monkeypatch.setattr(seen_module, "MAX_IMAGES", 10)
    sets = {key * 16: torch.zeros(count, NUM_BYTES, dtype=torch.uint8) for key, count in (("a", 4), ("b", 4), ("c", 5))}
    kept = seen_module.with_own(Own, sets)  # type: ignore[arg-type]
    assert list(kept) == ["b" * 16, "c" * 16]


def test_prints_remembered_of_other_images_are_not_taken_for_ones_own(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    for name in ("first", "second"):
        colours = COLOURS if name == "first" else dict.fromkeys(COLOURS, (9, 90, 200))
        config = Folder(name="folder", root=str(make_images(tmp_path / name, colours, 8)))
        task = prepare(config.open(), config, seed=0)
        for _ in range(2):
            (prints,) = seen_module.with_own(task, {}, cache=cache).values()
            assert torch.equal(prints, fingerprints_of(task.train.images))


def ancestor(data: str, command: Literal["pretrain", "finetune"]) -> Ancestor:
    seen = DataSeen(origin=data, fingerprint=data, listing="", num_examples=2, classes=("a", "b"))
    return Ancestor(command=command, digest=None, data=seen, model="small-cnn", steps=1)


def test_a_set_that_two_runs_have_seen_is_the_later_ones() -> None:
    lineage = [ancestor("first", "pretrain"), ancestor("second", "finetune"), ancestor("first", "finetune")]
    assert [found.name for found in seen_sets(lineage, {})] == ["second (finetune)", "first (finetune)"]


def test_only_the_last_run_has_seen_the_images_that_are_at_hand() -> None:
    """So that an image of the source is not told by the name of one of the target."""
    images = ResidentImages(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    own = Examples(images, torch.zeros(2).long(), ["mine", "mine too"])
    found = seen_sets([ancestor("first", "pretrain"), ancestor("second", "finetune")], {}, own)
    assert [one.name_of(1) for one in found] == ["training image 1", "mine too"]


@pytest.mark.parametrize(
    ("count", "told"),
    [(2, "0, 1"), (5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4 and 1 more"), (9, "0, 1, 2, 3, 4 and 4 more")],
)
def test_the_first_five_names_are_told_and_how_many_more_there_are(count: int, told: str) -> None:
    pairs = [
        Pair("exact", 0.0, "a", row, str(row), 0, "x", data) for row in range(count) for data in ("first", "second")
    ]
    assert LeakCheck(20, pairs, []).names() == told


def test_a_test_image_that_is_in_two_seen_sets_counts_once() -> None:
    pairs = [
        Pair(kind, 0.0, "a", row, f"{row}.png", 5, "x.png", data)  # type: ignore[arg-type]
        for kind, row, data in (("exact", 3, "first"), ("near", 3, "second"), ("near", 1, "first"))
    ]
    found = LeakCheck(10, pairs, ["third"])
    assert found.rows == [1, 3]
    assert found.sentence() == ("2 of 10 test images seen in training (1 exact, 1 near); not known what was in third")


def test_the_closest_in_features_are_those_of_the_highest_cosine() -> None:
    images = ResidentImages(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    test = Examples(images, torch.tensor([0, 1, -1, 1]), ["t0", "t1", "t2", "t3"])
    seen = SeenSet("first", None, Examples(images, torch.tensor([0, 0, 0, 0]), ["s0", "s1", "s2", "s3"]))
    angles = torch.tensor([[0.0, 0.5, 1.2, 2.0], [0.0, 0.4, 1.35, 3.0]])
    ours, theirs = (2.0 * torch.stack((row.cos(), row.sin()), dim=1) for row in angles)
    found = closest_in_features(test, ("a", "b"), seen, ours, theirs, without=[0], most=2)
    assert [(pair.test, pair.seen, pair.label) for pair in found] == [("t1", "s1", "b"), ("t2", "s2", None)]
    assert [pair.distance for pair in found] == pytest.approx([1 - math.cos(0.1), 1 - math.cos(0.15)], abs=1e-6)
    every = closest_in_features(test, ("a", "b"), seen, ours, theirs, without=[0])
    assert [pair.test for pair in every] == ["t1", "t2", "t3"]


@pytest.mark.parametrize("in_place", [False, True], ids=["beside", "in place"])
def test_other_images_under_the_names_of_those_trained_on_do_not_hide_a_leak(
    ptft: Ptft, config: Path, parts: Path, tmp_path: Path, in_place: bool
) -> None:
    trained = ptft("pretrain", config).path
    other = tmp_path / "other"
    shutil.copytree(parts, other)
    for part, source in (("train", "test"), ("test", "train")):
        for path in (other / part).rglob("*.*"):
            twin = parts / source / path.relative_to(other / part)
            path.unlink()
            if twin.exists():
                shutil.copy(twin, path)
            elif (near := next(iter(sorted(twin.parent.glob(f"*{path.suffix}"))), None)) is not None:
                shutil.copy(near, path)
    if in_place:
        shutil.rmtree(parts)
        other.rename(parts)
        other = parts
    found = ptft("leak", trained, "--data", other, "--json").json
    assert found["num_seen"] == found["num_test"] > 0
    if in_place:
        assert ptft("leak", trained, "--json").json["num_seen"] == found["num_test"]
