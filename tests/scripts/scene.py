"""What the batch scripts run on: small images, a pretraining long enough to be interrupted, commands on the PATH."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from faults.scene import read_state
from making import COLOURS, make_images, write_config

ROOT = Path(__file__).parents[2]
STEPS = 200

QUICK = Path(__file__).with_name("quick.py")
_SCHEDULER = str(Path(__file__).with_name("slurm.py"))


def environment() -> dict[str, str]:
    """Of every process: the same ptft, and as many threads, as the bits of the weights depend on."""
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = str(torch.get_num_threads())
    return os.environ | {"PYTHONPATH": os.pathsep.join(search), "OMP_NUM_THREADS": threads}


@dataclass(frozen=True)
class Scene:
    """A folder with photos/, task-a/, task-b/ and run.yaml, where scripts find ptft, torchrun and a scheduler.

    Attributes:
        path: the folder.
        environment: of the scripts.
    """

    path: Path
    environment: dict[str, str]

    def start(self, *command: str | Path, **environment: str) -> "subprocess.Popen[str]":
        """Starts a command in the folder."""
        return subprocess.Popen(
            list(map(str, command)),
            cwd=self.path,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        """A command from start to end."""
        process = self.start(*command, **environment)
        try:
            out, err = process.communicate(timeout=540)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def wait_for(self, pattern: str, process: "subprocess.Popen[str]") -> None:
        """Returns as soon as a file matches, which the process is to write."""
        deadline = time.monotonic() + 300
        while not list(self.path.glob(pattern)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, f"{pattern} did not come"
            time.sleep(0.02)

    def status(self, folder: str) -> Any:
        """status.json of a run."""
        return json.loads((self.path / folder / "status.json").read_text())

    def digest(self, folder: str) -> str:
        """SHA-256 over everything in the final state of a run that a repetition must bring back."""
        digest = hashlib.sha256()
        for key, value in sorted(read_state(self.path / folder / "checkpoints" / "last.pt").items()):
            content = value.numpy().tobytes() if isinstance(value, torch.Tensor) else json.dumps(value).encode()
            digest.update(key.encode() + content)
        return digest.hexdigest()


def make_scene(path: Path, server: Path) -> Scene:
    """The scene, with nothing run; its `ptft`, `torchrun` and ranks are forked by the `quick.py` at `server`."""
    make_images(path / "photos", COLOURS, 12)
    for name in ("task-a", "task-b"):
        make_images(path / name / "train", COLOURS, 1)  # too few for a race, which would take most of the time
        make_images(path / name / "test", dict(reversed(COLOURS.items())), 4)
    write_config(path / "run.yaml", train={"steps": STEPS, "ema": 0.9}, checkpoint={"every": {"steps": 20}})
    write_config(
        path / "fixed.yaml",
        data={"root": "task-a"},
        model={"width": 4},
        transfer={"recipe": "full"},
        train={"steps": STEPS},
        checkpoint={"every": {"steps": 20}},
    )
    commands = {name: [str(QUICK), "call", str(server), name] for name in ("ptft", "torchrun", "rank")}
    commands |= {name: [_SCHEDULER, name] for name in ("sbatch", "srun", "scontrol")}
    for name, arguments in commands.items():
        command = path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *arguments])} "$@"\n')
        command.chmod(0o755)
    (path / "slurm").mkdir()
    places = {"PATH": f"{path / 'bin'}:{os.environ['PATH']}", "SLURM_STAND_IN": str(path / "slurm")}
    places["PYTHON_EXEC"] = str(path / "bin" / "rank")  # the Python that torchrun starts a rank with
    return Scene(path, environment() | places)
