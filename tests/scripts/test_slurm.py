"""scripts/slurm/ under a stand-in scheduler: warned, requeued, gone on with, to the weights of an uninterrupted run."""

import importlib.util

import pytest
from distributed.job import run_job
from making import Ptft, write_config
from scripts.scene import ROOT, Scene

SLURM = ROOT / "scripts" / "slurm"
SAVED = "checkpoints/step-*.pt"


def log(scene: Scene) -> str:
    """What the jobs said."""
    return "".join(path.read_text() for path in sorted(scene.path.glob("ptft*.log")))


def test_a_warned_job_is_requeued_and_ends_with_the_weights_of_one_that_was_not(scene: Scene, ptft: Ptft) -> None:
    ptft("pretrain", "run.yaml", "--out", "whole").path.stat()
    job = ("sbatch", SLURM / "train.sh", "runs/source", "pretrain", "run.yaml")
    done = scene.run(*job, WARN_WHEN=f"runs/source/{SAVED}")
    assert done.returncode == 0, log(scene)
    assert "requeued" in log(scene)
    assert "resumed at step" in log(scene)
    assert scene.digest("runs/source") == scene.digest("whole")
    assert scene.run(*job).returncode == 0
    assert scene.run("sbatch", SLURM / "train.sh", "runs/source").returncode == 2


def test_control_without_its_traps_the_script_loses_the_job(scene: Scene) -> None:
    text = (SLURM / "train.sh").read_text()
    deaf = scene.path / "deaf.sh"
    deaf.write_text("\n".join(line for line in text.splitlines() if not line.startswith("trap ")))
    done = scene.run("sbatch", deaf, "runs/source", "pretrain", "run.yaml", WARN_WHEN=f"runs/source/{SAVED}")
    assert done.returncode != 0
    assert scene.status("runs/source")["state"] == "running"
    assert "requeued" not in log(scene)


def test_a_job_that_fails_tells_the_exit_code_and_is_not_requeued(scene: Scene) -> None:
    write_config(scene.path / "run.yaml", train={"steps": "many"})
    done = scene.run("sbatch", SLURM / "train.sh", "runs/source", "pretrain", "run.yaml")
    assert done.returncode == 2
    assert "train.steps: expected a whole number" in log(scene)
    assert "requeued" not in log(scene)


def test_an_array_finetunes_every_task_from_one_checkpoint(scene: Scene, ptft: Ptft) -> None:
    source = ptft("pretrain", "run.yaml", "--out", "source", "--set", "train.steps=10").path
    ptft("finetune", "fixed.yaml", "--from", source, "--out", "whole").path.stat()
    job = (SLURM / "array.sh", source, "task-a", "fixed.yaml")
    done = scene.run("sbatch", "--array=0-1", *job, WARN_WHEN=f"runs/fixed/{SAVED}")
    assert done.returncode == 0, log(scene)
    assert log(scene).count("requeued") == 1
    assert scene.status("runs/task-a")["state"] == scene.status("runs/fixed")["state"] == "done"
    assert scene.digest("runs/fixed") == scene.digest("whole")


@pytest.mark.parametrize("array", [["--array=2-2"], []])
def test_an_array_that_does_not_count_the_tasks_is_told_how(scene: Scene, array: list[str]) -> None:
    done = scene.run("sbatch", *array, SLURM / "array.sh", "best.pt", "task-a", "task-b")
    assert done.returncode != 0
    assert "--array=0-1" in done.stderr + log(scene)


def test_tasks_of_an_array_that_would_share_a_run_folder_are_refused(scene: Scene) -> None:
    done = scene.run("sbatch", "--array=0-1", SLURM / "array.sh", "best.pt", "here/task-a", "there/task-a")
    assert done.returncode == 2
    assert "each task needs a name of its own" in done.stderr + log(scene)


@pytest.mark.parametrize(("writes", "code"), [(False, 1), (True, 130)])
def test_only_a_status_that_this_start_wrote_tells_the_exit_code(scene: Scene, writes: bool, code: int) -> None:
    status = scene.path / "runs" / "source" / "status.json"
    status.parent.mkdir(parents=True)
    status.write_text('{"exit_code": 143}')
    srun = scene.path / "bin" / "srun"
    srun.write_text(
        "#!/bin/sh\nsleep 0.1\n" + (f"echo '{{\"exit_code\": 130}}' > {status}\n" if writes else "") + "exit 1\n"
    )
    job = ("sbatch", "--nodes=2", SLURM / "train.sh", "runs/source", "pretrain", "run.yaml")
    assert scene.run(*job).returncode == code


@pytest.mark.skipif(
    importlib.util.find_spec("ptft.distributed") is None, reason="needs ptft under torchrun (ptft.distributed)"
)
def test_a_job_on_two_nodes_is_warned_requeued_and_ends_with_the_same_weights(scene: Scene) -> None:
    job = ("sbatch", "--nodes=2", "--gpus-per-node=1", "--cpus-per-task=1", SLURM / "train.sh")
    command = ("pretrain", "run.yaml", "--set", "train.steps=60", "--set", "checkpoint.every.steps=4")
    assert run_job(2, *command, "--out", "whole", cwd=scene.path).code == 0
    done = scene.run(*job, "runs/source", *command, WARN_WHEN=f"runs/source/{SAVED}")
    assert done.returncode == 0, log(scene)
    assert "requeued" in log(scene)
    assert scene.digest("runs/source") == scene.digest("whole")
