"""A multi-label task through every command, from a table of real images."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from making import Ptft, make_images
from making_tasks import MULTI, Shapes, page_text, write
from sklearn.metrics import average_precision_score, f1_score

from ptft import checkpoint

CLASSES = ["blue", "green", "red"]


def truth_of(shapes: Shapes) -> np.ndarray:
    return np.array([[name in shown for name in CLASSES] for _, part, shown, _ in shapes.rows if part == "test"])


def test_scores_of_evaluate_and_summary_are_scikit_learns_of_what_predict_says(
    ptft: Ptft, shapes: Shapes, multi: Path
) -> None:
    rows = [
        json.loads(line)
        for line in ptft("predict", multi, *shapes.files_to_test(), "--format", "jsonl").out.splitlines()
    ]
    shares = np.array([[row["probabilities"][name] for name in CLASSES] for row in rows])
    truth, evaluated = truth_of(shapes), ptft("evaluate", multi, "--json").json
    assert evaluated["map"] == pytest.approx(average_precision_score(truth, shares), abs=1e-9)
    assert evaluated["map"] > 0.6
    assert [row["f1"] for row in evaluated["per_class"]] == pytest.approx(f1_score(truth, shares >= 0.5, average=None))
    assert [row["class"] for row in evaluated["per_class"]] == CLASSES
    assert [row["num_examples"] for row in evaluated["per_class"]] == truth.sum(axis=0).tolist()
    assert evaluated["map_low"] <= evaluated["map"] <= evaluated["map_high"]
    summary = json.loads((multi.parent.parent / "summary.json").read_text())
    assert summary["test"] == {key: evaluated[key] for key in summary["test"]}
    assert evaluated["task"] == "multi-label"


def test_rows_of_predict_name_the_classes_from_the_threshold_on(ptft: Ptft, shapes: Shapes, multi: Path) -> None:
    files = shapes.files_to_test()
    rows = list(csv.DictReader(io.StringIO(ptft("predict", multi, *files).out)))
    assert list(rows[0]) == ["path", "labels", *CLASSES]
    assert [row["path"] for row in rows] == list(map(str, files))
    for row in rows:
        assert row["labels"] == ";".join(name for name in CLASSES if float(row[name]) >= 0.5)
    assert len({row["labels"] for row in rows}) > 2


def test_a_table_of_zero_one_columns_is_the_same_task(ptft: Ptft, tmp_path: Path, multi: Path) -> None:
    config = write(
        tmp_path / "columns.yaml",
        {
            "data": {"name": "csv", "path": "shapes/columns.csv"},
            "task": {"name": "multi-label", "columns": CLASSES},
        },
    )
    other = ptft("pretrain", config).path
    ours, theirs = (checkpoint.read(path) for path in (multi, other))
    assert all(torch.equal(tensor, theirs.weights()[name]) for name, tensor in ours.weights().items())
    assert ptft("evaluate", other, "--json").json["map"] == ptft("evaluate", multi, "--json").json["map"]


def test_check_tells_how_many_images_have_each_class(ptft: Ptft, shapes: Shapes, tmp_path: Path) -> None:
    found = ptft("check", write(tmp_path / "run.yaml", MULTI), "--json")
    shown = [names for _, part, names, _ in shapes.rows if part == "train"]
    assert found.json["task"] == "multi-label"
    assert found.json["classes"] == CLASSES
    assert found.json["counts"]["train"] == [sum(name in names for names in shown) for name in CLASSES]


def test_the_classes_of_an_image_may_stand_in_a_column_of_another_name(
    ptft: Ptft, shapes: Shapes, tmp_path: Path
) -> None:
    table = shapes.write("other.csv", ["path", "shows", "split"], [[p, ";".join(c), s] for p, s, c, _ in shapes.rows])
    data = MULTI["data"] | {"path": str(table), "label_column": "shows"}
    found = ptft("check", write(tmp_path / "run.yaml", MULTI | {"data": data}), "--json")
    assert found.json["classes"] == CLASSES


def test_the_page_leads_with_map_interval_n_and_a_random_ranking(ptft: Ptft, shapes: Shapes, multi: Path) -> None:
    page, test = multi.parent.parent / "report.html", ptft("evaluate", multi, "--json").json
    told = page_text(page)
    ends = f"95 % interval {100 * test['map_low']:.1f} to {100 * test['map_high']:.1f} %"
    guess = truth_of(shapes).mean()
    assert f"mAP {100 * test['map']:.1f} % Of 24 test images, the mean over 3 classes; {ends}." in told
    assert f"the {100 * guess:.1f} % that ranking the images at random would give" in told
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", page.read_text("utf-8"))
    assert [title for title in headings if title in ("Learning curves", "Classes", "Where it looked")] == [
        "Learning curves",
        "Classes",
        "Where it looked",
    ]
    assert "Confusion" not in headings
    before = page.read_bytes()
    page.unlink()
    assert ptft("report", multi.parent.parent).path.read_bytes() == before


def test_inspect_and_metrics_tell_the_task_and_its_scores(ptft: Ptft, multi: Path) -> None:
    told = ptft("inspect", multi).out
    assert re.search(r"task +multi-label", told)
    assert re.search(r"classes +3: blue, green, red", told)
    assert re.search(r"validation mAP [\d.]+ % \(95 % interval [\d.]+ to [\d.]+\), F1 .*n = 12", told)
    lines = [json.loads(line) for line in (multi.parent.parent / "metrics.jsonl").read_text().splitlines()]
    looks = [line for line in lines if "validation_map" in line]
    assert looks
    assert all(
        {"validation_map_low", "validation_map_high", "validation_num_examples"} <= look.keys() for look in looks
    )
    best = max(looks, key=lambda look: (look["validation_map"], -look["validation_loss"]))
    assert checkpoint.read(multi).metadata.step == best["step"]


def test_a_run_that_goes_on_ends_with_the_weights_of_one_that_never_stopped(
    ptft: Ptft, shapes: Shapes, tmp_path: Path
) -> None:
    steady = {"schedule": {"name": "constant", "warmup": {"steps": 0}}, "objective": {"mixup": 0.2, "cutmix": 0.5}}
    config = write(tmp_path / "run.yaml", MULTI, **steady)
    whole = ptft("pretrain", config, "--out", "whole", "--set", "train.steps=12").path.parent
    ptft("pretrain", config, "--out", "parts", "--set", "train.steps=5")
    done = ptft("pretrain", config, "--out", "parts", "--set", "train.steps=12", "--resume")
    assert "resumed at step 5" in done.err
    ours, theirs = (checkpoint.read(folder / "last.pt").weights() for folder in (whole, done.path.parent))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_weights_of_a_single_label_task_give_the_backbone_and_no_row_of_the_head(
    ptft: Ptft, shapes: Shapes, tmp_path: Path
) -> None:
    make_images(tmp_path / "photos", {"blue": (40, 60, 200), "red": (210, 50, 40)}, 12)
    single = ptft("pretrain", write(tmp_path / "single.yaml", {"data": {"name": "folder", "root": "photos"}})).path
    result = ptft("finetune", write(tmp_path / "run.yaml", MULTI), "--from", single, "--out", "b")
    assert result.code == 0, result.err
    assert "100.0 % of the backbone loaded" in result.err
    assert "the source's is of a single-label task: its rows mean something else" in result.err
    assert "kept by class name" not in result.err


def test_rows_of_the_same_kind_of_task_are_kept_by_name(ptft: Ptft, tmp_path: Path, multi: Path) -> None:
    permuted = {"path": "shapes/labels.csv", "name": "csv", "classes": ["red", "blue", "green"]}
    still = {"optim": {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0}, "transfer": {"bn": "frozen"}}
    config = write(tmp_path / "b.yaml", MULTI | {"data": permuted}, **still)
    result = ptft("finetune", config, "--from", multi, "--set", "train.steps=1", "--out", "b")
    assert "head rows kept by class name: red, blue, green" in result.err
    ours, theirs = (ptft("predict", path, "shapes/images", "--format", "jsonl").out for path in (multi, result.path))
    for one, other in zip(map(json.loads, ours.splitlines()), map(json.loads, theirs.splitlines()), strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_other_tables_are_scored_and_other_kinds_of_data_refused(
    ptft: Ptft, shapes: Shapes, tmp_path: Path, multi: Path
) -> None:
    again = ptft("evaluate", multi, "--data", "shapes/labels.csv", "--json")
    assert again.json["map"] == ptft("evaluate", multi, "--json").json["map"]
    folder = ptft("evaluate", multi, "--data", "shapes")
    assert folder.code == 3
    assert "the checkpoint is of a multi-label task, and folders have one class for each image" in folder.err
    shapes.write("strange.csv", ["path", "label"], [[shapes.rows[0][0], "red;violet"]])
    strange = ptft("evaluate", multi, "--data", "shapes/strange.csv")
    assert strange.code == 3
    assert "does not know class 'violet'" in strange.err
    make_images(tmp_path / "photos", {"blue": (40, 60, 200), "red": (210, 50, 40)}, 6)
    single = ptft("pretrain", write(tmp_path / "single.yaml", {"data": {"name": "folder", "root": "photos"}})).path
    assert ptft("evaluate", single, "--data", "shapes/columns.csv").code == 3


def test_leaks_are_found_and_scores_told_without_them(ptft: Ptft, shapes: Shapes, tmp_path: Path) -> None:
    seen = next(row for row in shapes.rows if row[1] == "train")
    rows = [[path, ";".join(names), part] for path, part, names, _ in shapes.rows]
    (shapes.folder / "images" / "copy.png").write_bytes((shapes.folder / seen[0]).read_bytes())
    shapes.write("labels.csv", ["path", "label", "split"], [*rows, ["images/copy.png", ";".join(seen[2]), "test"]])
    trained = ptft("pretrain", write(tmp_path / "run.yaml", MULTI)).path
    found = ptft("leak", trained, "--json").json
    assert found["num_seen"] == 1
    assert found["scores"]["num_examples"] == found["scores_without_seen"]["num_examples"] + 1


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("red;;blue", "a class name is missing in 'red;;blue'"),
        ("red;red", "class red is named twice"),
    ],
)
def test_a_cell_that_is_no_list_of_classes_is_named_by_line(
    ptft: Ptft, shapes: Shapes, tmp_path: Path, cell: str, told: str
) -> None:
    rows = [[path, ";".join(names), part] for path, part, names, _ in shapes.rows]
    rows[3][1] = cell
    shapes.write("labels.csv", ["path", "label", "split"], rows)
    result = ptft("pretrain", write(tmp_path / "run.yaml", MULTI))
    assert result.code == 3
    assert f"shapes/labels.csv:5: images/003.png: {told}" in result.err


def test_a_zero_one_column_with_something_else_is_named_by_line(ptft: Ptft, shapes: Shapes, tmp_path: Path) -> None:
    shapes.write("odd.csv", ["path", "red", "blue"], [["images/000.png", 1, 0], ["images/001.png", "", -1]])
    config = write(
        tmp_path / "run.yaml",
        {
            "data": {"name": "csv", "path": "shapes/odd.csv"},
            "task": {"name": "multi-label", "columns": ["red", "blue"]},
        },
    )
    result = ptft("check", config)
    assert result.code == 3
    assert "shapes/odd.csv:3: images/001.png: column red has nothing; write 0 or 1" in result.err


def test_another_separator_than_the_tables_is_noticed(ptft: Ptft, shapes: Shapes, tmp_path: Path) -> None:
    config = write(tmp_path / "run.yaml", MULTI)
    result = ptft("check", config, "--set", "task.separator=,")
    assert result.code == 3
    assert "no row has several classes with ',' between them" in result.err
    assert "Set task.separator: ';'" in result.err
    rows = [[path, names[0] if names else "", part] for path, part, names, _ in shapes.rows]
    shapes.write("labels.csv", ["path", "label", "split"], rows)
    assert ptft("check", config, "--set", "task.separator=,").code == 0


def test_a_table_that_ptft_splits_is_evaluated_and_gone_on_with(ptft: Ptft, shapes: Shapes, tmp_path: Path) -> None:
    table = shapes.write("plain.csv", ["path", "label"], [[path, ";".join(names)] for path, _, names, _ in shapes.rows])
    config = write(tmp_path / "run.yaml", MULTI | {"data": {"name": "csv", "path": str(table)}})
    made = ptft("pretrain", config, "--set", "train.steps=2", "--out", "a")
    assert made.code == 0, made.err
    assert ptft("evaluate", made.path).code == 0
    again = ptft("pretrain", config, "--set", "train.steps=3", "--out", "a", "--resume")
    assert again.code == 0, again.err
    assert ptft("pretrain", Path("a/config.yaml"), "--out", "b").code == 0


@pytest.mark.parametrize("recipe", ["probe", "lp-ft"])
def test_the_head_is_solved_for_several_classes_an_image(
    ptft: Ptft, shapes: Shapes, tmp_path: Path, numbers: Path, recipe: str
) -> None:
    config = write(tmp_path / "run.yaml", MULTI, transfer={"recipe": recipe})
    result = ptft("finetune", config, "--from", numbers, "--out", "c")
    assert result.code == 0, result.err
    assert "head solved on the features of 36 images" in result.err
    before, after = (checkpoint.read(path).weights() for path in (numbers, result.path))
    frozen = [torch.equal(tensor, after[name]) for name, tensor in before.items() if name.startswith("backbone.")]
    assert all(frozen) == (recipe == "probe")
    assert ptft("evaluate", result.path, "--json").json["map"] > 0.8


def test_co_tuning_wants_a_head_of_classes(ptft: Ptft, tmp_path: Path, multi: Path) -> None:
    make_images(tmp_path / "photos", {"blue": (40, 60, 200), "red": (210, 50, 40)}, 12)
    keys = ["--set", "transfer.recipe=full", "--set", "transfer.co_tuning=1.0"]
    refused = ptft("finetune", "--from", multi, "--data", "photos", *keys, "--out", "c")
    assert refused.code == 2, refused.err
    assert "the source's head is of a multi-label task" in refused.err
