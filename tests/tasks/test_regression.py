"""A regression through every command, from a table of real images."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from making import Ptft
from making_tasks import NUMBERS, Shapes, page_text, write
from sklearn.metrics import mean_absolute_error, r2_score

from ptft import checkpoint


def truth_of(shapes: Shapes, part: str = "test") -> np.ndarray:
    return np.array([[1000 + 50 * light, -light / 2] for _, own, _, light in shapes.rows if own == part])


def test_scores_of_evaluate_and_summary_are_scikit_learns_of_what_predict_says(
    ptft: Ptft, shapes: Shapes, numbers: Path
) -> None:
    lines = ptft("predict", numbers, *shapes.files_to_test(), "--format", "jsonl").out.splitlines()
    predicted = np.array([list(json.loads(line)["targets"].values()) for line in lines])
    truth, evaluated = truth_of(shapes), ptft("evaluate", numbers, "--json").json
    errors = mean_absolute_error(truth, predicted, multioutput="raw_values")
    assert [row["mae"] for row in evaluated["per_target"]] == pytest.approx(errors, rel=1e-9)
    assert evaluated["mae_light"] == evaluated["per_target"][0]["mae"]
    assert [row["r2"] for row in evaluated["per_target"]] == pytest.approx(
        r2_score(truth, predicted, multioutput="raw_values"), rel=1e-9
    )
    assert evaluated["r2"] == pytest.approx(r2_score(truth, predicted), rel=1e-9)
    assert evaluated["r2"] > 0.3
    assert evaluated["r2_low"] <= evaluated["r2"] <= evaluated["r2_high"]
    summary = json.loads((numbers.parent.parent / "summary.json").read_text())
    assert summary["test"] == {key: evaluated[key] for key in summary["test"]}
    assert summary["calibration"] is None


def test_predictions_are_in_the_targets_own_units(ptft: Ptft, shapes: Shapes, numbers: Path) -> None:
    """The head alone predicts standard deviations: numbers near 0, where the first target is near 1030."""
    rows = list(csv.DictReader(io.StringIO(ptft("predict", numbers, *shapes.files_to_test()).out)))
    assert list(rows[0]) == ["path", "light", "half"]
    assert all(950 < float(row["light"]) < 1110 for row in rows)
    assert all(-1 < float(row["half"]) < 0.2 for row in rows)


def test_the_checkpoint_has_mean_and_deviation_of_the_training_images(
    ptft: Ptft, shapes: Shapes, numbers: Path
) -> None:
    metadata, train = checkpoint.read(numbers).metadata, truth_of(shapes, "train")
    assert metadata.target_mean == pytest.approx(train.mean(axis=0))
    assert metadata.target_std == pytest.approx(train.std(axis=0))
    told = ptft("inspect", numbers).out
    assert re.search(r"task +regression", told)
    assert f"light ({train[:, 0].mean():,.0f} ± {train[:, 0].std():.4g} in training)" in told
    assert re.search(r"validation mean R² -?[\d.]+ \(95 % interval .*MAE of light [\d.]+ \(.*n = 12", told)


def test_check_tells_the_range_of_each_target(ptft: Ptft, shapes: Shapes, tmp_path: Path) -> None:
    found = ptft("check", write(tmp_path / "run.yaml", NUMBERS))
    train = truth_of(shapes, "train")
    for column, form in zip(train.T, (",.0f", ".4g"), strict=True):  # about 1,030 and -0.3
        mean, low, high = (format(value, form) for value in (column.mean(), column.min(), column.max()))
        assert f"{mean} on average, {low} to {high}" in found.err


def test_the_page_leads_with_r2_interval_n_and_tells_the_error_of_the_mean(ptft: Ptft, numbers: Path) -> None:
    page, test = numbers.parent.parent / "report.html", ptft("evaluate", numbers, "--json").json
    told = page_text(page)
    ends = f"95 % interval {test['r2_low']:.3f} to {test['r2_high']:.3f}"
    assert f"mean R² {test['r2']:.3f} Of 24 test images, the mean over 2 targets; {ends}." in told
    assert f"of the training mean: {test['per_target'][0]['mae_of_mean']:.4g}" in told
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", page.read_text("utf-8"))
    assert headings[:4] == ["Learning curves", "Targets", "Predicted and true", "Largest errors"]
    before = page.read_bytes()
    page.unlink()
    assert ptft("report", numbers.parent.parent).path.read_bytes() == before


def test_runs_of_one_task_stand_side_by_side_and_those_of_several_are_not_ranked(
    ptft: Ptft, shapes: Shapes, tmp_path: Path, numbers: Path
) -> None:
    again = ptft("pretrain", write(tmp_path / "again.yaml", NUMBERS, seed=1)).path
    ptft("report", numbers.parent.parent, again.parent.parent, "--out", "two.html")
    assert re.search(
        r"has -?[\d.]+ \(-?[\d.]+ to -?[\d.]+, n = 24\)", page_text(Path("two.html")).replace("\u00a0", " ")
    )
    ptft("report", numbers.parent.parent, "runs/multi", "--out", "three.html")
    assert "Runs of different tasks" in page_text(Path("three.html"))


def test_a_run_that_goes_on_ends_with_the_weights_of_one_that_never_stopped(
    ptft: Ptft, shapes: Shapes, tmp_path: Path
) -> None:
    config = write(tmp_path / "run.yaml", NUMBERS, schedule={"name": "constant", "warmup": {"steps": 0}})
    whole = ptft("pretrain", config, "--out", "whole", "--set", "train.steps=12").path.parent
    ptft("pretrain", config, "--out", "parts", "--set", "train.steps=5")
    done = ptft("pretrain", config, "--out", "parts", "--set", "train.steps=12", "--resume")
    ours, theirs = (checkpoint.read(folder / "last.pt").weights() for folder in (whole, done.path.parent))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_row_of_the_head_predicts_the_same_numbers_on_another_scale(
    ptft: Ptft, shapes: Shapes, tmp_path: Path, numbers: Path
) -> None:
    """Other training images have another mean and deviation; the rows follow them, and change places."""
    few = [row for row in shapes.rows if row[3] > 0.5 or row[1] != "train"]
    shapes.write(
        "few.csv",
        ["path", "half", "light", "split"],
        [[path, -light / 2, 1000 + 50 * light, part] for path, part, _, light in few],
    )
    still = {"optim": {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0}, "transfer": {"bn": "frozen"}}
    few_numbers = {
        "data": {"name": "csv", "path": "shapes/few.csv"},
        "task": {"name": "regression", "targets": ["half", "light"]},
    }
    config = write(tmp_path / "few.yaml", few_numbers, **still)
    result = ptft("finetune", config, "--from", numbers, "--set", "train.steps=1", "--out", "b")
    assert "rows of light, half now count in the training images' standard deviations" in result.err
    before, after = (checkpoint.read(path).metadata.target_mean for path in (numbers, result.path))
    assert abs(before[0] - after[1]) > 1
    ours, theirs = (ptft("predict", path, "shapes/images", "--format", "jsonl").out for path in (numbers, result.path))
    for one, other in zip(map(json.loads, ours.splitlines()), map(json.loads, theirs.splitlines()), strict=True):
        assert one["targets"] == pytest.approx(other["targets"], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("recipe", ["probe", "lp-ft"])
def test_the_head_is_solved_for_numbers(ptft: Ptft, shapes: Shapes, tmp_path: Path, multi: Path, recipe: str) -> None:
    config = write(tmp_path / "run.yaml", NUMBERS, transfer={"recipe": recipe}, optim={"name": "sgd", "lr": 0.005})
    result = ptft("finetune", config, "--from", multi, "--out", "c")
    assert result.code == 0, result.err
    assert "head solved on the features of 36 images" in result.err
    r2 = ptft("evaluate", result.path, "--json").json["r2"]
    assert r2 > 0.5, r2


def test_a_target_that_never_changes_and_a_cell_that_is_no_number_are_refused(
    ptft: Ptft, shapes: Shapes, tmp_path: Path
) -> None:
    config = write(tmp_path / "run.yaml", NUMBERS)
    rows: list[list[object]] = [[path, 7, light, part] for path, part, _, light in shapes.rows]
    shapes.write("numbers.csv", ["path", "light", "half", "split"], rows)
    constant = ptft("pretrain", config)
    assert constant.code == 3
    assert "target 'light' is 7 for every training image: there is nothing to learn" in constant.err
    rows[2][1] = "3,5"
    shapes.write("numbers.csv", ["path", "light", "half", "split"], rows)
    wrong = ptft("check", config)
    assert wrong.code == 3
    assert "shapes/numbers.csv:4: images/002.png: column light has '3,5'; write a number, for example 3.5" in wrong.err


def test_a_table_without_the_target_is_refused(ptft: Ptft, numbers: Path) -> None:
    result = ptft("evaluate", numbers, "--data", "shapes/labels.csv")
    assert result.code == 3
    assert "no column light" in result.err
