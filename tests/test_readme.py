"""The README says what is true, and the scripts do what they say."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from making import COLOURS, Ptft, make_images, write_config

from ptft import errors

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_the_one_of_the_configs() -> None:
    assert load_script("reference").insert(README) == README, "run: python scripts/reference.py"


def test_every_command_of_the_readme_exists() -> None:
    from ptft.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups}
    assert set(re.findall(r"(?:`|\(|^)ptft ([a-z]+)", README, re.MULTILINE)) == known


def test_every_exit_code_of_the_errors_is_in_the_readme() -> None:
    table = README.partition("### Exit codes")[2].partition("###")[0]
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert all(re.search(rf"\b{code}\b", table) for code in codes | {130, 143})


def test_the_configs_of_the_readme_are_valid(tmp_path: Path) -> None:
    from ptft.config.load import load
    from ptft.settings import FinetuneConfig, PretrainConfig

    for text, model in zip(
        re.findall(r"```yaml\n(.*?)```", README, re.S), (PretrainConfig, FinetuneConfig), strict=True
    ):
        path = tmp_path / "a.yaml"
        path.write_text(text)
        assert load(path, model).data is not None


@pytest.mark.parametrize("placeholder", ["DEMO_OUTPUT", "RESULTS_TABLE", "GPU_NOTE", "MACHINE", "DEMO_MACHINE"])
def test_no_placeholder_is_left(placeholder: str) -> None:
    assert placeholder not in README


def test_the_batch_script_runs_goes_on_and_tells_a_failure(tmp_path: Path, ptft: Ptft) -> None:
    make_images(tmp_path / "photos", COLOURS, 10)
    make_images(tmp_path / "task-a", COLOURS, 6)
    (tmp_path / "task-b").mkdir()
    write_config(tmp_path / "run.yaml", train={"steps": 3})
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "scripts" / "batch.sh"), "run.yaml", "task-a", "task-b"]

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    first = run()
    assert first.returncode == 1
    assert "runs/batch/task-b failed with exit code 3" in first.stderr
    assert (tmp_path / "runs/batch/results.tsv").read_text().splitlines()[1].startswith("task-a\t")
    make_images(tmp_path / "task-b", COLOURS, 6)
    before = (tmp_path / "runs/batch/source/checkpoints/best.pt").stat().st_mtime_ns
    second = run()
    assert second.returncode == 0, second.stderr
    rows = [line.split("\t") for line in second.stdout.splitlines()]
    assert [row[0] for row in rows] == ["task", "task-a", "task-b"]
    assert [len(row) for row in rows] == [7, 7, 7]
    assert rows[1][1] == "test"
    assert (tmp_path / "runs/batch/source/checkpoints/best.pt").stat().st_mtime_ns == before


def test_the_batch_script_refuses_tasks_of_one_name_and_passes_a_signal_on(tmp_path: Path) -> None:
    make_images(tmp_path / "photos", COLOURS, 10)
    write_config(tmp_path / "run.yaml", train={"steps": 100_000}, checkpoint={"every": {"steps": 20}})
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = ["bash", str(ROOT / "scripts" / "batch.sh"), "run.yaml"]
    twice = subprocess.run([*script, "a/x", "b/x"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert twice.returncode == 2
    process = subprocess.Popen([*script, "photos"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 180
    while not list(tmp_path.glob("runs/batch/source/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    err = process.communicate(timeout=180)[1]
    assert process.returncode == 143
    assert "stopped by a signal" in err
    assert json.loads((tmp_path / "runs/batch/source/status.json").read_text())["state"] == "stopped"
