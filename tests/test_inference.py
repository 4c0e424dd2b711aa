"""Evaluate and predict: by name, without a config, with the preprocessing of training."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from making import COLOURS, Ptft, make_images
from PIL import Image


@pytest.fixture
def trained(ptft: Ptft, config: Path) -> Path:
    """Blue, green and red, learnt well but for not all images."""
    return ptft("pretrain", config, "--set", "train.steps=6").path


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_gives_names_and_probabilities_of_png_and_jpeg_without_a_config(
    ptft: Ptft, trained: Path, photos: Path
) -> None:
    result = ptft("predict", trained, photos / "red")
    found = rows(result.out)
    assert result.code == 0
    assert result.err == ""
    assert [row["path"] for row in found] == [str(path) for path in sorted((photos / "red").iterdir())]
    assert {Path(row["path"]).suffix for row in found} == {".png", ".jpg"}
    assert {row["label"] for row in found} <= COLOURS.keys()
    assert all(0 < float(row["probability"]) <= 1 for row in found)


def test_predictions_on_the_test_images_are_those_of_evaluate(ptft: Ptft, trained: Path, photos: Path) -> None:
    """The same preprocessing, proven: the confusion matrix made of predictions is the one of evaluation."""
    held_out = Path("held-out")
    for name in COLOURS:
        (held_out / name).mkdir(parents=True)
        for path in sorted((photos / name).iterdir())[::2]:
            shutil.copy(path, held_out / name)
    scores = ptft("evaluate", trained, "--data", held_out, "--json").json
    classes = sorted(COLOURS)
    confusion = np.zeros((3, 3), int)
    for row in rows(ptft("predict", trained, held_out).out):
        confusion[classes.index(Path(row["path"]).parent.name), classes.index(row["label"])] += 1
    assert confusion.tolist() == scores["confusion"]
    assert scores["num_examples"] == 30


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_evaluate_repeats_the_test_score_of_the_run(ptft: Ptft, config: Path, memory_format: str) -> None:
    settings = ("--set", "train.ema=0.5", "--set", f"train.memory_format={memory_format}")
    summary = ptft("pretrain", config, "--json", *settings).json
    again = ptft("evaluate", summary["checkpoint"], "--json").json
    for key in ("top1", "loss", "confusion", "per_class", "num_examples"):
        assert again[key] == summary["test"][key]
    told = ptft("evaluate", summary["checkpoint"])
    assert told.out.count("\n") == 1
    assert f"n = {again['num_examples']}" in told.out
    assert "recall" in told.err


def test_one_image_alone_gets_the_probability_it_gets_among_others(ptft: Ptft, trained: Path, photos: Path) -> None:
    together = rows(ptft("predict", trained, photos).out)
    alone = rows(ptft("predict", trained, together[7]["path"]).out)
    assert float(alone[0]["probability"]) == pytest.approx(float(together[7]["probability"]), abs=1e-5)


def test_evaluate_matches_classes_by_name_also_a_part_of_them_in_another_order(
    ptft: Ptft, trained: Path, tmp_path: Path
) -> None:
    folder = make_images(tmp_path / "two", {"red": COLOURS["red"], "blue": COLOURS["blue"]}, 5)
    whole = ptft("evaluate", trained, "--data", folder, "--json").json
    assert [row["num_examples"] for row in whole["per_class"]] == [5, 0, 5]


def test_a_class_the_checkpoint_does_not_know_exits_3_and_is_named(ptft: Ptft, trained: Path, tmp_path: Path) -> None:
    folder = make_images(tmp_path / "more", COLOURS | {"wasp": (1, 1, 1)}, 2)
    result = ptft("evaluate", trained, "--data", folder)
    assert result.code == 3
    assert "'wasp'" in result.err


def test_jsonl_lists_the_top_classes_in_falling_order(ptft: Ptft, trained: Path, photos: Path) -> None:
    lines = ptft("predict", trained, photos, "--format", "jsonl", "--top", "2").out.splitlines()
    for line in map(json.loads, lines):
        first, second = line["top"]
        assert (line["label"], line["probability"]) == (first["label"], first["probability"])
        assert first["probability"] >= second["probability"]
    assert len(lines) == 60
    whole = ptft("predict", trained, photos / "red", "--format", "jsonl", "--top", "9").out.splitlines()
    assert len(whole) == 20
    for line in map(json.loads, whole):
        assert {place["label"] for place in line["top"]} == set(COLOURS)
        assert sum(place["probability"] for place in line["top"]) == pytest.approx(1)


def test_an_unreadable_image_is_named_the_others_are_predicted_and_the_exit_code_is_3(
    ptft: Ptft, trained: Path, photos: Path
) -> None:
    (photos / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = ptft("predict", trained, photos)
    assert result.code == 3
    assert "broken.jpg" in result.err
    assert len(rows(result.out)) == 60
    only = ptft("predict", trained, photos / "red" / "broken.jpg")
    assert (only.code, rows(only.out)) == (3, [])
    assert "broken.jpg" in only.err


def test_grey_rgba_and_large_images_are_predicted_as_their_colour(ptft: Ptft, config: Path, tmp_path: Path) -> None:
    trained = ptft("pretrain", config, "--set", "train.steps=40").path
    large = Image.fromarray(np.full((90, 120, 3), COLOURS["green"], np.uint8))
    large.save("large.jpg")
    large.convert("RGBA").save("clear.png")
    large.convert("P").save("palette.gif")
    found = rows(ptft("predict", trained, "large.jpg", "clear.png", "palette.gif").out)
    assert [row["label"] for row in found] == ["green"] * 3


@pytest.mark.parametrize("arguments", [["nowhere.png"], ["."]])
def test_nothing_to_predict_exits_3(ptft: Ptft, trained: Path, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = ptft("predict", trained.absolute(), *(["empty"] if arguments == ["."] else arguments))
    assert (result.code, result.out) == (3, "")


def test_an_unknown_format_exits_2_and_a_damaged_checkpoint_4(ptft: Ptft, trained: Path, photos: Path) -> None:
    assert ptft("predict", trained, photos, "--format", "xml").code == 2
    content = bytearray(trained.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    Path("damaged.pt").write_bytes(content)
    for command in (["predict", "damaged.pt", photos], ["evaluate", "damaged.pt"], ["inspect", "damaged.pt"]):
        result = ptft(*command)
        assert (result.code, result.out) == (4, "")
        assert "damaged.pt" in result.err


def test_inspect_tells_classes_format_and_digest(ptft: Ptft, trained: Path) -> None:
    told = ptft("inspect", trained).out
    assert "blue, green, red" in told
    assert "12x12" in told
    assert "(verified)" in told
    assert re.search(r"validation [\d.]+ % \([\d.]+ to [\d.]+, n = 6\)", told)
    assert ptft("inspect", trained, "--json").json["has_optimizer"] is True


def test_evaluate_refuses_its_own_data_when_images_were_added(ptft: Ptft, trained: Path, photos: Path) -> None:
    assert ptft("evaluate", trained).code == 0
    shutil.copy(photos / "red" / "000.jpg", photos / "red" / "zzz.jpg")
    result = ptft("evaluate", trained)
    assert result.code == 3
    assert "may have been trained on" in result.err


def test_a_checkpoint_knows_its_own_images_wherever_they_lie_and_others_of_the_same_path(
    ptft: Ptft, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, own, others = trained.resolve(), photos.resolve(), tmp_path / "elsewhere" / photos.name
    make_images(others, COLOURS, 7)
    monkeypatch.chdir(others.parent)
    shutil.copytree(own, "moved")
    for place in (own, Path("moved")):
        told = ptft("evaluate", trained, "--data", place).err
        assert f"{place} has the names of what the checkpoint was trained on" in told
        assert ptft("leak", trained, "--data", place, "--json").json["num_test"] == 12
    assert ptft("leak", trained, "--data", photos.name, "--json").json["num_test"] == 3 * 7
    told = ptft("evaluate", trained, "--data", photos.name).err
    assert "is what the checkpoint was trained on" not in told
    assert (
        f"photos is the path of what the checkpoint was trained on: `ptft leak {trained} --data photos` tells" in told
    )


@pytest.mark.parametrize(
    ("splits", "num_scored"),
    [(("train", "val", "test", "test"), 6), (("train", "val"), 3), (("test",), 3), (("val",), 3), (("train",), None)],
)
def test_evaluate_never_scores_the_train_rows_of_a_table(
    ptft: Ptft, trained: Path, photos: Path, splits: tuple[str, ...], num_scored: int | None
) -> None:
    rows = [f"{name}/{2 * index:03d}.jpg,{name},{split}" for name in COLOURS for index, split in enumerate(splits)]
    (photos / "t.csv").write_text("\n".join(["path,label,split", *rows]))
    result = ptft("evaluate", trained, "--data", photos / "t.csv", "--json")
    if num_scored is None:
        assert result.code == 3
        assert "every image is of the train part" in result.err
    else:
        assert result.json["num_examples"] == num_scored


def test_evaluate_takes_the_part_of_shards_and_tells_what_it_does_not_read(
    ptft: Ptft, trained: Path, tmp_path: Path
) -> None:
    for part, count in (("train", 4), ("val", 3)):
        make_images(tmp_path / "more" / part, COLOURS, count)
    (tmp_path / "more/val/red/phone.heic").write_bytes(b"x")
    for command in (("pack", "--out", "shards"), ("leak", trained), ("score", trained)):
        assert "images: 1 .heic." in ptft(*command, "--data", "more").err
    for data in ("more", "shards"):
        result = ptft("evaluate", trained, "--data", data, "--json")
        assert result.json["num_examples"] == 3 * len(COLOURS)
        assert ("images: 1 .heic." in result.err) == (data == "more")


def test_evaluate_takes_a_table_of_one_class_as_it_does_a_folder(ptft: Ptft, trained: Path, photos: Path) -> None:
    (photos / "t.csv").write_text("path,label\nred/000.jpg,red\nred/002.jpg,red\n")
    assert ptft("evaluate", trained, "--data", photos / "t.csv", "--json").json["num_examples"] == 2


def test_evaluate_names_bad_images_and_leaves_them_out(ptft: Ptft, trained: Path, tmp_path: Path) -> None:
    folder = make_images(tmp_path / "new", COLOURS, 3)
    (folder / "red" / "bad.png").write_bytes(b"no image")
    result = ptft("evaluate", trained, "--data", folder, "--json")
    assert result.code == 0
    assert "red/bad.png" in result.err
    assert (result.json["num_examples"], len(result.json["bad_images"])) == (9, 1)


def test_predict_tells_links_that_lead_nowhere_and_missing_files_beside_what_it_can_read(
    ptft: Ptft, trained: Path, tmp_path: Path
) -> None:
    folder = make_images(tmp_path / "inbox", {"red": (210, 50, 40)}, 2)
    (folder / "red/broken.png").symlink_to("gone.png")
    (folder / "red/phone.heic").write_bytes(b"")
    result = ptft("predict", trained, folder, "missing.png")
    assert result.code == 3
    assert "ptft: not read, as their names do not end like those of images: 1 .heic." in result.err
    assert len(result.out.splitlines()) == 3
    assert "red/broken.png" in result.err
    assert "missing.png" in result.err


def test_predict_says_that_stdout_takes_no_more(trained: Path, photos: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "ptft", "predict", str(trained), str(photos)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr == "ptft: cannot write the result to stdout: No space left on device.\n"


def test_evaluate_expands_the_home_folder_and_says_what_is_not_there(
    ptft: Ptft, trained: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(photos.parent))
    assert ptft("evaluate", trained, "--data", "~/photos").code == 0
    missing = ptft("evaluate", trained, "--data", "fotos")
    assert missing.code == 3
    assert "fotos: no such folder (looked in" in missing.err
    too_long = ptft("evaluate", trained, "--data", "x" * 300)
    assert too_long.code == 3
    assert "xxx: no such folder (looked in" in too_long.err


def test_evaluate_says_what_data_must_be(ptft: Ptft, trained: Path, photos: Path) -> None:
    result = ptft("evaluate", trained, "--data", photos / "red" / "000.jpg")
    assert result.code == 3
    assert "neither a folder nor a .csv" in result.err
