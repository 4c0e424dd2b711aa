"""scripts/batch.sh on a plain machine: runs, goes on, and acts on every exit code."""

import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from making import Ptft, write_config
from scripts.scene import ROOT, STEPS, Scene

BATCH = ("bash", ROOT / "scripts" / "batch.sh")


def run_whole(ptft: Ptft, *more: str) -> None:
    """The same as the script, without it, into `whole/`."""
    source = ptft("pretrain", "run.yaml", "--out", "whole/source", *more).path
    ptft("finetune", "fixed.yaml", "--from", source, "--out", "whole/fixed").path.stat()


def test_a_batch_stopped_in_the_middle_and_run_again_ends_with_the_same_weights(scene: Scene, ptft: Ptft) -> None:
    run_whole(ptft)
    process = scene.start(*BATCH, "run.yaml", "fixed.yaml")
    scene.wait_for("runs/batch/source/checkpoints/step-*.pt", process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "stopped by a signal" in err
    status = scene.status("runs/batch/source")
    assert status["state"] == "stopped"
    assert 0 < status["step"] < STEPS
    again = scene.run(*BATCH, "run.yaml", "fixed.yaml")
    assert again.returncode == 0, again.stderr
    for folder in ("source", "fixed"):
        assert scene.digest(f"runs/batch/{folder}") == scene.digest(f"whole/{folder}")


def test_control_one_step_less_is_another_digest(scene: Scene, ptft: Ptft) -> None:
    ptft("pretrain", "run.yaml", "--out", "whole", "--set", "train.steps=8").path.stat()
    ptft("pretrain", "run.yaml", "--out", "shorter", "--set", "train.steps=7").path.stat()
    assert scene.digest("whole") != scene.digest("shorter")


def test_a_failed_task_is_told_and_tried_again_while_finished_runs_are_kept(scene: Scene) -> None:
    write_config(scene.path / "run.yaml", train={"steps": 3})
    (scene.path / "task-b").rename(scene.path / "later")
    (scene.path / "task-b").mkdir()
    first = scene.run(*BATCH, "run.yaml", "task-a", "task-b")
    assert first.returncode == 1
    assert "runs/batch/task-b failed with exit code 3" in first.stderr
    assert [line.split("\t")[0] for line in first.stdout.splitlines()] == ["task", "task-a"]
    (scene.path / "task-b").rmdir()
    (scene.path / "later").rename(scene.path / "task-b")
    before = (scene.path / "runs/batch/source/checkpoints/best.pt").stat().st_mtime_ns
    second = scene.run(*BATCH, "run.yaml", "task-a", "task-b")
    assert second.returncode == 0, second.stderr
    assert second.stdout == (scene.path / "runs/batch/results.tsv").read_text()
    names, *rows = [line.split("\t") for line in second.stdout.splitlines()]
    assert [row[0] for row in rows] == ["task-a", "task-b"]
    for row in rows:
        told = dict(zip(names, row, strict=True))
        summary = json.loads((scene.path / "runs/batch" / told["task"] / "summary.json").read_text())
        assert told["measure"] == "top1"
        assert float(told["score"]) == pytest.approx(summary[told["part"]]["top1"], abs=5e-5)
        assert told["checkpoint"] == summary["checkpoint"]
    assert (scene.path / "runs/batch/source/checkpoints/best.pt").stat().st_mtime_ns == before


STUB = """#!/bin/bash
# Stands for ptft: writes what a run leaves and prints its checkpoint; the task `slow` waits until it may go on.
while [ $# -gt 0 ]; do [ "$1" = --out ] && out="$2"; shift; done
mkdir -p "$out"
echo '{"checkpoint": "best.pt", "test": {"top1": 0.5, "top1_low": 0.4, "top1_high": 0.6, "num_examples": 9}}' \\
  > "$out/summary.json"
case "$out" in */slow) touch waits; while [ ! -e go ]; do sleep 0.02; done ;; esac
echo "$out/checkpoints/best.pt"
"""


def test_two_calls_on_one_folder_print_their_own_rows(tmp_path: Path) -> None:
    stub = tmp_path / "bin/ptft"
    stub.parent.mkdir()
    stub.write_text(STUB)
    stub.chmod(0o755)
    around = os.environ | {"PATH": f"{stub.parent}:{os.environ['PATH']}", "RUNS": "runs"}
    for task in ("quick", "slow", "other"):
        (tmp_path / task).mkdir()
    first = subprocess.Popen(
        [*BATCH, "run.yaml", "quick", "slow"], cwd=tmp_path, env=around, stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "waits").exists():
        assert first.poll() is None
        time.sleep(0.02)
    second = subprocess.run(
        [*BATCH, "run.yaml", "other"], cwd=tmp_path, env=around, stdout=subprocess.PIPE, text=True, check=True
    )
    (tmp_path / "go").touch()
    told, _ = first.communicate(timeout=60)
    assert [line.split("\t")[0] for line in second.stdout.splitlines()] == ["task", "other"]
    assert [line.split("\t")[0] for line in told.splitlines()] == ["task", "quick", "slow"]
    assert not list((tmp_path / "runs").glob(".*"))


def test_a_config_that_cannot_be_run_ends_the_batch_with_its_reason(scene: Scene) -> None:
    write_config(scene.path / "run.yaml", train={"steps": "many"})
    done = scene.run(*BATCH, "run.yaml", "task-a")
    assert done.returncode == 1
    assert "train.steps: expected a whole number" in done.stderr
    assert "runs/batch/source failed with exit code 2" in done.stderr


def test_a_run_that_another_process_holds_ends_the_batch_with_its_code(scene: Scene) -> None:
    (scene.path / "runs/batch/source").mkdir(parents=True)
    with (scene.path / "runs/batch/source/.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = scene.run(*BATCH, "run.yaml", "task-a")
    assert done.returncode == 75
    assert "another process is at work on runs/batch/source" in done.stderr


def test_weights_that_are_not_finite_end_the_batch_with_advice(scene: Scene) -> None:
    write_config(scene.path / "run.yaml", train={"steps": 30}, optim={"name": "sgd", "lr": 1e30})
    done = scene.run(*BATCH, "run.yaml", "task-a")
    assert done.returncode == 1
    assert "runs/batch/source: the loss is not finite; lower optim.lr" in done.stderr


@pytest.mark.parametrize("tasks", [("a/x", "b/x"), ("source",), ()])
def test_tasks_without_a_name_of_their_own_are_refused(scene: Scene, tasks: tuple[str, ...]) -> None:
    assert scene.run(*BATCH, "run.yaml", *tasks).returncode == 2
    assert not (scene.path / "runs").exists()


def test_the_scripts_are_bash_without_errors() -> None:
    for script in (ROOT / "scripts").rglob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)
