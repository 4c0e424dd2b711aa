"""torchrun itself: a killed rank, restarted by itself; a killed launcher, of whom nothing is left."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from distributed.job import BOUND, children, differing, is_gone, run_job, saved_steps, torchrun, wait_for, weights
from making import COLOURS, make_images, write_config

from ptft import checkpoint

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux: prctl and /proc")

STEPS = 300


def test_a_job_restarts_by_itself_and_dies_with_its_launcher(tmp_path: Path) -> None:
    """One job meets both: SIGKILL of a rank, after which torchrun starts it anew, then SIGKILL of torchrun."""
    make_images(tmp_path / "photos", COLOURS, 12)
    config = write_config(tmp_path / "run.yaml", train={"steps": STEPS}, checkpoint={"every": {"steps": 20}})
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=1", "--monitor-interval=0.1"]
    job = torchrun("pretrain", config, "--out", "run", cwd=tmp_path, options=options)
    log = tmp_path / "run" / "log.txt"
    try:
        wait_for(lambda: len(saved_steps(tmp_path / "run")) > 1 or job.poll() is not None)
        assert job.poll() is None
        first = children(job.pid)
        assert len(first) == 2
        os.kill(first[1], signal.SIGKILL)
        wait_for(lambda: "resumed at step" in log.read_text())
        assert all(map(is_gone, first))
        resumed = re.search(r"resumed at step ([\d,]+)", log.read_text())
        assert resumed is not None
        before = saved_steps(tmp_path / "run")
        wait_for(lambda: saved_steps(tmp_path / "run") != before)
        second = children(job.pid)
        assert len(second) == 2
    finally:
        began = time.monotonic()
        job.kill()
        said = job.communicate()[1]
    wait_for(lambda: all(map(is_gone, second)), BOUND)
    assert time.monotonic() - began < BOUND
    assert said.count("stopped by SIGTERM") == 1, said
    step = checkpoint.read(tmp_path / "run" / "checkpoints" / "last.pt").metadata.step
    assert int(resumed[1].replace(",", "")) < step < STEPS
    for out in ("run", "whole"):
        assert run_job(2, "pretrain", "run.yaml", "--resume", "--out", out, cwd=tmp_path).code == 0
    assert differing(weights(tmp_path / "run"), weights(tmp_path / "whole")) == []


def test_a_restart_is_no_leave_to_go_on_with_the_run_of_another_job(tmp_path: Path) -> None:
    make_images(tmp_path / "photos", COLOURS, 12)
    config = write_config(tmp_path / "run.yaml", train={"steps": 4})
    assert run_job(1, "pretrain", config, "--out", "run", cwd=tmp_path).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for more in ([], ["--rdzv-id=other"]):
        options = [*more, "--standalone"] if not more else [*more, "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
        options += ["--nproc-per-node=1", "--max-restarts=1", "--monitor-interval=0.1"]
        job = torchrun("pretrain", config, "--out", "run", "--set", "train.steps=9", cwd=tmp_path, options=options)
        said = job.communicate(timeout=120)[1]
        assert job.returncode == 1
        assert said.count("already holds a run. Go on with it by --resume") == 2, said
    assert {path: path.read_bytes() for path in before if path.name != ".lock"} == {
        path: content for path, content in before.items() if path.name != ".lock"
    }
