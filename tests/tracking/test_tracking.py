"""The key `tracking`, and TensorBoard, its default."""

import sys
from pathlib import Path

import numpy as np
import pytest
from making import Ptft
from tracking.mlflow_server import points_of

from ptft.report.journal import read_metrics
from ptft.run_folder import RunFolder


def points(folder: str) -> list[tuple[str, int, float]]:
    """Every scalar that TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(folder, size_guidance={"scalars": 0})
    events.Reload()
    return sorted((tag, point.step, point.value) for tag in events.Tags()["scalars"] for point in events.Scalars(tag))


def told(folder: str) -> list[tuple[str, int, float]]:
    return points_of(read_metrics(RunFolder(Path(folder))))


def rounded(points: list[tuple[str, int, float]]) -> list[tuple[str, int, float]]:
    """TensorBoard keeps single precision."""
    return [(key, step, float(np.float32(value))) for key, step, value in points]


def test_tensorboard_has_every_number_also_of_a_run_that_goes_on(ptft: Ptft, config: Path) -> None:
    ptft("pretrain", config, "--out", "a").path.stat()
    assert rounded(points("a")) == rounded(told("a"))
    ptft("pretrain", config, "--out", "a", "--resume", "--set", "train.steps=16").path.stat()
    assert rounded(points("a")) == rounded(told("a"))
    assert told("a")[-1][1] == 16


def test_without_trackers_there_is_metrics_jsonl_alone(ptft: Ptft, config: Path) -> None:
    ptft("pretrain", config, "--out", "a", "--set", "tracking=[]").path.stat()
    assert told("a")
    assert not list(Path("a").glob("events.*"))
    ptft("pretrain", config, "--out", "a", "--resume", "--set", "train.steps=16").path.stat()
    assert rounded(points("a")) == rounded(told("a"))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("[mlfow]", "'mlfow' is not a tracker. Did you mean mlflow? `ptft list trackers` shows all."),
        ("[tensorboard, tensorboard]", "tensorboard is named twice."),
        ("mlflow", "expected a list, got 'mlflow'. Write for example [mlflow]."),
    ],
)
def test_a_tracker_that_is_none_is_refused(ptft: Ptft, config: Path, value: str, sentence: str) -> None:
    result = ptft("pretrain", config, "--set", f"tracking={value}")
    assert result.code == 2
    assert sentence in result.err


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
@pytest.mark.parametrize("command", ["pretrain", "check"])
def test_a_missing_package_is_told_before_anything_is_done(
    ptft: Ptft, config: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    result = ptft(command, config, "--set", f"tracking=[tensorboard, {name}]")
    assert result.code == 2
    assert result.err.endswith(
        f"ptft: tracking: {name} is not installed. pip install 'ptft[{name}]', or leave it out.\n"
    )
    assert not list(Path().rglob("metrics.jsonl"))
