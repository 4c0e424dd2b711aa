"""A stand-in for Slurm on one machine, as far as scripts/slurm/ uses it: `python slurm.py sbatch|srun|scontrol …`.

What it has of the real one, because scripts break on it: the batch script is copied elsewhere before it runs; its
options come from the #SBATCH lines, those of the command line win; an unknown option refuses the job; a warning signal
with B: reaches the batch shell alone, and the whole job is killed when the seconds of the warning are over; `scontrol
requeue` ends the script and starts it again with SLURM_RESTART_COUNT; srun forwards signals to its tasks. Unlike the
real one sbatch returns when the job has ended, with its exit code, and runs the tasks of an array one after the other.

Environment: SLURM_STAND_IN, a folder of its own; WARN_WHEN, a glob below the folder of submission: the warning comes to
the first start of a job as soon as a file matches.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_POLL_SECONDS = 0.02
_SECONDS_TO_END = 30.0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sbatch", allow_abbrev=False)
    for name in ("job-name", "time", "output", "open-mode", "cpus-per-task", "dependency", "signal", "array"):
        parser.add_argument(f"--{name}")
    for name in ("nodes", "ntasks", "ntasks-per-node", "gpus-per-node"):
        parser.add_argument(f"--{name}", type=int, default=1)
    for name in ("requeue", "parsable"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser


def sbatch(arguments: Sequence[str]) -> int:
    """Runs a job, or every task of an array, to its end."""
    place = next(index for index, argument in enumerate(arguments) if not argument.startswith("--"))
    script, given = Path(arguments[place]), arguments[place + 1 :]
    lines = script.read_text().splitlines()
    head = lines[: next(index for index, line in enumerate(lines) if line and not line.startswith("#"))]
    inside = [line.removeprefix("#SBATCH ") for line in head if line.startswith("#SBATCH ")]
    options = _options().parse_args([*inside, *arguments[:place]])
    if not options.array:
        job = _new_job()
        _say(options, job)
        return _run_to_end(options, script, given, job, {})
    first, _, last = options.array.partition("-")
    array, codes = _new_job(), []
    _say(options, array)
    for task in range(int(first), int(last or first) + 1):
        job = array if task == int(first) else _new_job()
        known = {"SLURM_ARRAY_JOB_ID": str(array), "SLURM_ARRAY_TASK_ID": str(task)}
        codes.append(_run_to_end(options, script, given, job, known))
    return max(codes)


def _say(options: argparse.Namespace, job: int) -> None:
    print(job if options.parsable else f"Submitted batch job {job}", flush=True)  # noqa: T201


def _folder() -> Path:
    return Path(os.environ["SLURM_STAND_IN"])


def _new_job() -> int:
    folders = (_folder() / str(number) for number in range(1, 1000))
    folder = next(folder for folder in folders if not folder.exists())
    folder.mkdir()
    return int(folder.name)


def _run_to_end(
    options: argparse.Namespace, script: Path, given: Sequence[str], job: int, known: dict[str, str]
) -> int:
    folder = _folder() / str(job)
    spooled = Path(shutil.copy(script, folder / "slurm_script"))
    for restart in range(10):
        environment = os.environ | known | _environment(options, job, restart)
        code = _run_once(options, [str(spooled), *given], folder, environment, is_first=restart == 0)
        if not (folder / "requeue").exists():
            return code
        (folder / "requeue").unlink()
    raise RuntimeError(f"job {job} was requeued without end")


def _environment(options: argparse.Namespace, job: int, restart: int) -> dict[str, str]:
    environment = {
        "SLURM_JOB_ID": str(job),
        "SLURM_NNODES": str(options.nodes),
        "SLURM_JOB_NODELIST": ",".join(["localhost"] * options.nodes),
        "SLURM_GPUS_ON_NODE": str(options.gpus_per_node),
        "SLURM_CPUS_PER_TASK": str(options.cpus_per_task),
    }
    return environment | ({"SLURM_RESTART_COUNT": str(restart)} if restart else {})


def _output(options: argparse.Namespace, environment: dict[str, str]) -> Path:
    names = {
        "x": options.job_name,
        "j": environment["SLURM_JOB_ID"],
        "A": environment.get("SLURM_ARRAY_JOB_ID", ""),
        "a": environment.get("SLURM_ARRAY_TASK_ID", ""),
    }
    return Path(re.sub("%([xjAa])", lambda found: names[found[1]], options.output))


def _run_once(
    options: argparse.Namespace, command: Sequence[str], folder: Path, environment: dict[str, str], is_first: bool
) -> int:
    """The batch script once, warned and killed as Slurm would."""
    where, name, seconds = re.fullmatch(r"(B:)?(\w+)@(\d+)", options.signal).groups()  # type: ignore[union-attr]
    kill_at = float("inf")
    with _output(options, environment).open("a" if options.open_mode == "append" else "w") as output:
        process = subprocess.Popen(
            ["bash", *command], stdout=output, stderr=output, env=environment, start_new_session=True
        )
        try:
            while process.poll() is None:
                if is_first and kill_at == float("inf") and _is_warned():
                    assert where == "B:", "without B: the steps are signalled, and no trap of the script runs"
                    process.send_signal(getattr(signal, f"SIG{name}"))
                    kill_at = time.monotonic() + int(seconds)
                if (folder / "requeue").exists():
                    kill_at = min(kill_at, time.monotonic() + _SECONDS_TO_END)
                if time.monotonic() > kill_at:
                    break
                time.sleep(_POLL_SECONDS)
        finally:
            _kill_group(process)
    return process.wait()


def _is_warned() -> bool:
    wanted = os.environ.get("WARN_WHEN")
    return bool(wanted) and any(Path().glob(str(wanted)))


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Nothing of a job outlives it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def srun(arguments: Sequence[str]) -> int:
    """Starts a command on every node, which are all this machine, and forwards signals to it."""
    command = [*arguments]
    while command[0].startswith("--"):
        assert re.fullmatch(r"--(ntasks-per-node|nodes)=1", command[0]), f"srun: unknown option {command[0]}"
        command.pop(0)
    tasks = [
        subprocess.Popen(command, env=os.environ | {"SLURM_NODEID": str(node), "SLURM_PROCID": str(node)})
        for node in range(int(os.environ["SLURM_NNODES"]))
    ]
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda signum, _: [task.send_signal(signum) for task in tasks])
    return max(task.wait() & 255 for task in tasks)


def scontrol(arguments: Sequence[str]) -> int:
    """`requeue JOB` and `show hostnames LIST`."""
    match list(arguments):
        case ["requeue", job]:
            (_folder() / job / "requeue").touch()
        case ["show", "hostnames", nodes]:
            print("\n".join(nodes.split(",")))  # noqa: T201
        case _:
            sys.exit(f"scontrol: invalid command {list(arguments)}")
    return 0


if __name__ == "__main__":
    sys.exit({"sbatch": sbatch, "srun": srun, "scontrol": scontrol}[sys.argv[1]](sys.argv[2:]))
