"""Recipe auto races for several classes an image, and for numbers, as it does for one class."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from making import Ptft
from making_tasks import MULTI, NUMBERS, Shapes, write

from ptft import checkpoint

TASKS = {"mAP": MULTI, "R²": NUMBERS}
NUMBERS_RUN = Path("runs/numbers/checkpoints/best.pt")
"""Where fixture `multi` puts it too."""
RACES: dict[str, Any] = {"recipe": "auto", "race": {"budget": 4.0}}


def config(path: Path, sections: dict[str, Any], **more: Any) -> Path:
    """Of a run long enough to race for."""
    train = {"steps": 40, "batch_size": 8, "precision": "fp32", "memory_format": "contiguous"}
    return write(path, sections, **({"optim": {"name": "sgd", "lr": 0.03}, "transfer": RACES, "train": train} | more))


def spoilt(source: Path, path: Path) -> Path:
    """A checkpoint whose convolutions give nothing, whatever the image."""
    found = checkpoint.read(source)
    dead = {name: torch.zeros_like(tensor) if tensor.ndim == 4 else tensor for name, tensor in found.tensors.items()}
    checkpoint.write(path, found.metadata, dead)
    return path


def chosen(folder: str) -> tuple[str, float]:
    resolved = yaml.safe_load(Path(folder, "config.yaml").read_text())
    return resolved["transfer"]["recipe"], resolved["optim"]["lr"]


@pytest.mark.parametrize("unit", TASKS)
def test_random_weights_and_the_probe_race_and_the_task_has_its_own_score(
    ptft: Ptft, shapes: Shapes, tmp_path: Path, multi: Path, unit: str
) -> None:
    source = NUMBERS_RUN if unit == "mAP" else multi
    run = config(tmp_path / "run.yaml", TASKS[unit])
    result = ptft("finetune", run, "--from", source, "--out", "a")
    assert result.code == 0, result.err
    assert "auto: 3 racers and the probe on images held out, 10 steps each, " in result.err
    raced = {line.split(",")[0].strip() for line in result.err.splitlines() if f"{unit} " in line and ", lr " in line}
    assert raced >= {"full", "lp-ft", "random weights"}
    recipe, lr = chosen("a")
    assert lr == 0.03
    assert f"In config.yaml: transfer.recipe: {recipe}" in result.err
    assert f"{unit} " in next(line for line in result.err.splitlines() if line.startswith("auto: chose"))
    own = yaml.safe_load(Path("a/config.yaml").read_text())["transfer"]
    transfer = {key: own[key] for key in ("recipe", "interpolate")}
    explicit = config(tmp_path / "b.yaml", TASKS[unit], transfer=transfer, optim={"name": "sgd", "lr": lr})
    same = ptft("finetune", explicit, "--from", source, "--out", "b")
    assert "auto:" not in same.err
    one, other = (checkpoint.read(path).weights() for path in (result.path, same.path))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("unit", TASKS)
def test_random_weights_win_over_a_source_that_sees_nothing(
    ptft: Ptft, shapes: Shapes, tmp_path: Path, multi: Path, unit: str
) -> None:
    source = spoilt(NUMBERS_RUN if unit == "mAP" else multi, tmp_path / "spoilt.pt")
    result = ptft("finetune", config(tmp_path / "run.yaml", TASKS[unit]), "--from", source, "--out", "a")
    assert result.code == 0, result.err
    assert chosen("a")[0] == "random", result.err
    kept = config(tmp_path / "b.yaml", TASKS[unit], transfer=RACES | {"race": {"random_weights": False}})
    result = ptft("finetune", kept, "--from", source, "--out", "b")
    assert chosen("b")[0] != "random", result.err


def test_a_class_that_a_fold_has_no_image_of_is_raced_with_balanced_weights(
    ptft: Ptft, shapes: Shapes, tmp_path: Path, numbers: Path
) -> None:
    rare = [
        [path, ";".join([*names, *(["one"] if path.endswith("000.png") else [])]), part]
        for path, part, names, _ in shapes.rows
    ]
    shapes.write("rare.csv", ["path", "label", "split"], rare)
    sections = {
        **MULTI,
        "data": {"name": "csv", "path": "shapes/rare.csv"},
        "objective": {"name": "supervised", "class_weights": "balanced"},
    }
    result = ptft("finetune", config(tmp_path / "run.yaml", sections), "--from", numbers, "--out", "a")
    assert result.code == 0, result.err
    assert "auto: chose" in result.err
