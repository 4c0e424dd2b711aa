"""Tracking by MLflow, read back from a real server through MLflow's own client."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from faults.program import start
from making import Ptft, write_config
from tracking.mlflow_server import QUIET, Server, points_of

from ptft.report.journal import read_metrics
from ptft.run_folder import RunFolder
from ptft.tracking.mlflow import without_password

pytest.importorskip("mlflow", reason="needs the extra mlflow")
pytestmark = pytest.mark.filterwarnings("default")  # of MLflow and what it imports

if TYPE_CHECKING:
    from mlflow.entities import Run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("mlflow"))
    running.start()
    yield running
    running.kill()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    for name, value in {**QUIET, "MLFLOW_TRACKING_URI": server.uri}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def config(tmp_path: Path, photos: Path) -> Path:
    return write_config(tmp_path / "run.yaml", tracking=["mlflow"])


@dataclass(frozen=True)
class Tracked:
    """Sets the environment of a started ptft."""

    uri: str

    def __call__(self) -> None:
        os.environ.update({**QUIET, "MLFLOW_TRACKING_URI": self.uri})


def the_run(folder: str, server: Server) -> "Run":
    from mlflow import MlflowClient

    return MlflowClient(server.uri).get_run(json.loads(Path(folder, "mlflow.json").read_text())["run_id"])


def points(found: "Run", server: Server) -> list[tuple[str, int, float]]:
    """Every number that the server has of a run except the final scores."""
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    history = (client.get_metric_history(found.info.run_id, key) for key in found.data.metrics)
    return sorted(
        (point.key, point.step, point.value)
        for metrics in history
        for point in metrics
        if not point.key.startswith("final_")
    )


def lines(folder: str) -> list[dict[str, Any]]:
    return read_metrics(RunFolder(Path(folder)))


def test_a_run_is_in_mlflow_with_config_numbers_scores_and_end(ptft: Ptft, config: Path, server: Server) -> None:
    checkpoint = ptft("pretrain", config, "--out", "whole").path
    found = the_run("whole", server)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "whole"
    assert found.data.params["train.steps"] == "12"
    assert found.data.params["optim.name"] == "sgd"
    assert points(found, server) == points_of(lines("whole"))
    summary = json.loads(Path("whole/summary.json").read_text())
    assert found.data.metrics["final_test_top1"] == summary["test"]["top1"]
    assert found.data.tags["ptft.state"] == "done"
    assert found.data.tags["ptft.checkpoint"] == str(checkpoint.resolve())
    assert not list(Path("whole").glob("events.*"))


def test_a_run_killed_and_resumed_is_one_run_without_doubled_points(ptft: Ptft, config: Path, server: Server) -> None:
    folder = config.parent / "killed"
    long = ("--set", "train.steps=160", "--set", "checkpoint.every.steps=10", "--resume", "--out", "killed")
    running = start("pretrain", "run.yaml", *long, cwd=config.parent, before=Tracked(server.uri))
    while running.is_alive() and not list(folder.glob("checkpoints/step-*50.pt")):
        time.sleep(0.005)
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    before = the_run(str(folder), server)
    assert before.info.status == "RUNNING"
    assert ptft("pretrain", "run.yaml", *long).code == 0
    found = the_run(str(folder), server)
    assert found.info.run_id == before.info.run_id
    assert found.info.status == "FINISHED"
    assert points(found, server) == points_of(lines(str(folder)))


def test_a_run_stopped_by_a_signal_is_told_so(config: Path, server: Server) -> None:
    folder = config.parent / "stopped"
    long = ("--set", "train.steps=100000", "--set", "checkpoint.every.steps=10", "--out", "stopped")
    running = start("pretrain", "run.yaml", *long, cwd=config.parent, before=Tracked(server.uri))
    while running.is_alive() and not list(folder.glob("checkpoints/step-*50.pt")):
        time.sleep(0.005)
    running.send(signal.SIGTERM)
    assert running.wait().code == 143
    found = the_run(str(folder), server)
    assert found.info.status == "KILLED"
    assert (found.data.tags["ptft.state"], found.data.tags["ptft.exit_code"]) == ("stopped", "143")


def test_a_longer_run_and_a_tracker_named_later_have_everything(ptft: Ptft, config: Path, server: Server) -> None:
    ptft("pretrain", config, "--out", "grown", "--set", "tracking=[]").path.stat()
    assert not Path("grown/mlflow.json").exists()
    ptft("pretrain", config, "--out", "grown", "--resume", "--set", "train.steps=18").path.stat()
    ptft("pretrain", config, "--out", "grown", "--resume", "--set", "train.steps=24").path.stat()
    found = the_run("grown", server)
    assert points(found, server) == points_of(lines("grown"))
    assert found.data.params["train.steps"] == "18"
    assert found.data.tags["ptft.train.steps"] == "24"


def test_a_server_that_goes_away_is_told_once_and_given_the_rest_later(
    ptft: Ptft, config: Path, server: Server
) -> None:
    long = ("--set", "train.steps=160", "--set", "checkpoint.every.steps=10", "--out", "left")
    running = start("pretrain", "run.yaml", *long, cwd=config.parent, before=Tracked(server.uri))
    while running.is_alive() and not list((config.parent / "left").glob("checkpoints/step-*50.pt")):
        time.sleep(0.005)
    server.kill()
    try:
        result = running.wait()
    finally:
        server.start()
    assert result.code == 0, result.err
    assert result.err.count("mlflow failed and gets no more of this run") == 1
    assert lines("left")[-1]["step"] == 160
    assert ptft("pretrain", "run.yaml", "--set", "train.steps=170", *long[2:], "--resume").code == 0
    found = the_run("left", server)
    assert points(found, server) == points_of(lines("left"))


def test_a_server_that_cannot_be_reached_ends_a_new_run_before_it_begins(
    ptft: Ptft, config: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    result = ptft("pretrain", config, "--out", "early")
    assert result.code == 2
    assert result.out == ""
    assert "tracking: mlflow cannot be used" in result.err
    assert not Path("early/metrics.jsonl").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert ptft("pretrain", config, "--out", "early").code == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    resumed = ptft("pretrain", config, "--out", "early", "--resume", "--set", "train.steps=14")
    assert resumed.code == 0
    assert "the run goes on without it" in resumed.err


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:secret@host:9/a", "http://host:9/a"),
        ("postgresql://user:s%40cret@host/db?x=a@b", "postgresql://host/db?x=a@b"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("/home/me/mlruns", "/home/me/mlruns"),
    ],
)
def test_a_uri_is_told_as_it_is_but_for_user_and_password(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_a_password_in_the_uri_is_not_told(
    ptft: Ptft, config: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("http://", "http://user:secret@"))
    result = ptft("pretrain", "run.yaml", "--out", "private")
    assert result.code == 0, result.err
    assert server.uri in result.err
    assert "secret" not in result.err
    assert not any("secret" in path.read_text() for path in (config.parent / "private").glob("*.*") if path.is_file())
