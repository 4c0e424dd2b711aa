"""One save, cut at every system call: killed there, or the call fails; the old or the new checkpoint is there."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.program import Before
from faults.scene import Scene, intact_step, leftovers, make_scene, one_sentence, seeded, tell, without_page
from making import Result

_CALLS = "%file,write,fsync,fdatasync,close,lseek,ftruncate,getdents64,fstat"
_END = "/the-save-is-over"
_PAUSED = "paused"
_CUT_STEP = 4


def _tracing_fails() -> str:
    if shutil.which("strace") is None:
        return "strace is not installed: saves are NOT cut at their system calls"
    with subprocess.Popen(["sleep", "30"]) as sleeper:
        command = ["strace", "-o", os.devnull, "-p", str(sleeper.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            said = strace.stderr.readline()
            sleeper.kill()
            strace.wait()
    return "" if "attached" in said else f"ptrace is not permitted: saves are NOT cut at their system calls ({said})"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    if reason := _tracing_fails():
        pytest.skip(reason)
    return make_scene(
        tmp_path_factory.mktemp("syscalls"),
        train={"steps": 6, "ema": 0.9, "evaluate_every": {"steps": 2}},
        checkpoint={"every": {"steps": 2}, "keep": 1},
    )


def pause_before_the_save() -> None:
    """Holds the process before the save that will be cut until it is traced; and marks where that save ends."""
    from ptft.train.saver import Saver
    from ptft.train.state import State

    without_page()
    save = Saver._save

    def paused(saver: Saver, state: State, is_best: bool) -> None:
        cut = state.progress.step == _CUT_STEP
        if cut:
            _await_tracer()
        save(saver, state, is_best)
        if cut:
            Path(_END).exists()

    Saver._save = paused  # type: ignore[method-assign]


def _await_tracer() -> None:
    """By calls that are not traced, so that the numbers of those of the save do not depend on how long it takes."""
    descriptor = os.open("/proc/self/status", os.O_RDONLY)
    Path(_PAUSED).touch()
    while b"TracerPid:\t0\n" in os.pread(descriptor, 4096, 0):
        time.sleep(0.001)
    time.sleep(0.03)


def traced(scene: Scene, out: str, *options: str, before: Before = pause_before_the_save) -> tuple[Result, list[str]]:
    """The run with its save at step 4 under strace; the result, and the calls from the start of that save."""
    trace, paused = scene.path / f"{out}.trace", scene.path / _PAUSED
    paused.unlink(missing_ok=True)
    running = scene.start(out, before=before)
    deadline = time.monotonic() + 60
    while not paused.exists():
        assert time.monotonic() < deadline
        assert running.is_alive(), running.err.read_text()
        time.sleep(0.002)
    command = ["strace", "-qq", "-y", "-o", str(trace), "-e", f"trace={_CALLS}", *options, "-p", str(running.pid)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
        result = running.wait()
        strace.wait()
    return result, trace.read_text().splitlines()


def calls_of_the_save(lines: list[str]) -> list[str]:
    """Lines of a trace up to the end of the save, without signals."""
    end = next(number for number, line in enumerate(lines) if _END in line)
    return [line for line in lines[:end] if re.match(r"\w+\(", line)]


@dataclass(frozen=True)
class Place:
    """A system call of the save: its name and which of that name; and what happens there."""

    call: str
    number: int
    fault: str

    @property
    def options(self) -> list[str]:
        return ["-e", f"inject={self.call}:{self.fault}:when={self.number}"]


def places(calls: list[str]) -> list[Place]:
    """Every call of a save, with every fault."""
    counts: Counter[str] = Counter()
    found = []
    for line in calls:
        name = line.partition("(")[0]
        counts[name] += 1
        found += [Place(name, counts[name], fault) for fault in ("signal=KILL", "error=EIO", "error=ENOSPC")]
    return found


def steps_in(scene: Scene, out: str) -> tuple[int | None, int | None]:
    checkpoints = scene.path / out / "checkpoints"
    return intact_step(checkpoints / "last.pt"), intact_step(checkpoints / "best.pt")


def cut_faults(scene: Scene, out: str, place: Place, before: Before = pause_before_the_save) -> list[str]:
    """What is wrong after a save that was cut at one place, and after going on."""
    result, _ = traced(scene, out, *place.options, before=before)
    faults, steps = [], steps_in(scene, out)
    if not set(steps) <= {_CUT_STEP - 2, _CUT_STEP, *([6] if result.code == 0 else [])}:
        faults.append(f"last.pt and best.pt are of steps {steps}")
    if place.fault.startswith("signal"):
        faults += [f"exit code {result.code}"] if result.code != -signal.SIGKILL else []
    elif result.code != 0:
        reason = "Input/output error" if place.fault.endswith("EIO") else "No space left on device"
        faults += [] if one_sentence(result, 5, "ptft: cannot", reason, " free)") else [f"{result.code}: {result.err}"]
        faults += [] if place.call.startswith("unlink") else leftovers(scene.path / out)
    return faults + scene.unequal_end(out)


def test_a_save_cut_at_any_system_call_leaves_the_old_or_the_new_checkpoint(scene: Scene, trials: int) -> None:
    result, lines = traced(scene, "recorded")
    assert result.code == 0
    calls = calls_of_the_save(lines)
    every = places(calls)
    chosen = every if trials >= len(every) else seeded("syscalls").sample(every, trials)
    failures = [(place, found) for n, place in enumerate(chosen) if (found := cut_faults(scene, f"cut-{n}", place))]
    note = f"(of {len(every)} places: {len(calls)} calls, each killed, failed with EIO and with ENOSPC)"
    tell("a save killed or failed at a system call leaves the old or the new checkpoint", failures, len(chosen), note)


def write_directly() -> None:
    """Breaks the rule that a checkpoint is written beside its name."""
    import ptft.checkpoint
    import ptft.train.saver
    from ptft.storage import BinaryIO

    def write(path: Path, write: Callable[[BinaryIO], object]) -> None:
        with path.open("wb") as file:
            write(file)
            os.fsync(file.fileno())

    def copy(existing: Path, path: Path) -> None:
        write(path, lambda file: file.write(existing.read_bytes()))

    ptft.checkpoint.write_durably = write
    ptft.train.saver.link_durably = copy
    pause_before_the_save()


def test_control_a_checkpoint_written_directly_is_neither_old_nor_new_after_a_kill(scene: Scene) -> None:
    result, lines = traced(scene, "direct", before=write_directly)
    assert result.code == 0
    calls = calls_of_the_save(lines)
    opened = next(number for number, line in enumerate(calls) if "last.pt" in line and "O_TRUNC" in line)
    number = sum(line.startswith("write(") for line in calls[: opened + 1]) + 1
    traced(scene, "half", *Place("write", number, "signal=KILL").options, before=write_directly)
    assert steps_in(scene, "half")[0] is None


def order_faults(calls: list[str], cwd: Path) -> list[str]:
    """What a power cut could undo: a name given before the bytes, an old file removed before the new one is safe."""
    dirty: set[str] = set()
    synced: set[str] = set()
    unsafe: set[str] = set()
    faults = []
    for line in calls:
        if line.rstrip().endswith(")") and " = -1 " in line:
            continue
        name, _, rest = line.partition("(")
        paths = [os.path.join(cwd, path) for path in re.findall(r'(?:"|\d<)([^">]+)[">]', rest)]  # noqa: PTH118
        if name == "write":
            dirty.add(paths[0])
        elif name in ("fsync", "fdatasync"):
            dirty.discard(paths[0])
            unsafe.discard(paths[0])
            synced.add(paths[0])
        elif name.startswith(("link", "rename")):
            old, new = paths[-2:]
            faults += [f"{new} is named before it is synced"] if old in dirty or old not in synced else []
            if name.startswith("rename"):
                unsafe.add(str(Path(new).parent))
                faults += ["metrics.jsonl is not synced"] if not any("metrics" in path for path in synced) else []
            synced.add(new)
        elif name.startswith("unlink") and paths[-1].endswith(".pt"):
            faults += [f"{paths[-1]} is removed before the new names are safe"] if unsafe else []
    return faults + [f"{folder} is not synced" for folder in unsafe]


def test_a_save_syncs_bytes_before_names_and_names_before_it_removes(scene: Scene) -> None:
    calls = calls_of_the_save(traced(scene, "ordered")[1])
    assert sum("rename" in line for line in calls) >= 4
    assert any("unlink" in line and "step-000000002.pt" in line for line in calls)
    tell("what a save syncs, and in which order", order_faults(calls, scene.path), 1)


def forget_to_sync() -> None:
    os.fsync = lambda descriptor: None
    pause_before_the_save()


def test_control_a_save_without_syncs_is_noticed(scene: Scene) -> None:
    faults = order_faults(calls_of_the_save(traced(scene, "unsynced", before=forget_to_sync)[1]), scene.path)
    assert any("named before it is synced" in fault for fault in faults)
    assert any("removed before" in fault for fault in faults)
    assert "metrics.jsonl is not synced" in faults
