"""Disks that fill up, limits, lost permissions, folders that vanish: one sentence, and nothing is lost."""

import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from faults.scene import (
    Scene,
    intact_step,
    leftovers,
    make_scene,
    metrics_faults,
    one_sentence,
    seeded,
    tell,
    without_page,
)
from making import Result

_NOBODY = 65534


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("storage"))


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; skips, loudly, where mounting is not permitted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command: full disks are NOT tried")
    if done.returncode:
        pytest.skip(f"mounting is not permitted: full disks are NOT tried ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def stop_faults(folder: Path, result: Result, *reason: str) -> list[str]:
    """What is wrong with a run that met a fault: its sentence, its temporary files, its checkpoints, its metrics."""
    if result.code == 0:
        return []
    faults = [] if one_sentence(result, 5, "ptft: cannot", " free)", *reason) else [f"{result.code}: {result.err}"]
    faults += leftovers(folder)
    checkpoints = folder / "checkpoints"
    faults += [f"{path} is not whole" for path in checkpoints.glob("*.pt") if intact_step(path) is None]
    if any(checkpoints.glob("step-*.pt")) and not (checkpoints / "last.pt").exists():
        faults += [] if len(list(checkpoints.glob("step-*.pt"))) == 1 else ["last.pt is gone"]
    return faults + (metrics_faults(folder) if (folder / "metrics.jsonl").exists() else [])


def test_a_disk_that_is_full_at_some_size_loses_nothing(scene: Scene, trials: int) -> None:
    sizes = [8, 16, 32, 48, 64, 80, 100, 120, 140, 160, 180, 200]
    sizes = sizes if trials < 100 else [*sizes, *range(12, 400, 16)]
    failures, stopped = [], 0
    for size in sizes:
        with mounted(scene.path / f"disk-{size}", f"size={size}k") as disk:
            out = f"disk-{size}/run"
            result = scene.run(out)
            stopped += result.code == 5
            found = stop_faults(disk / "run", result, "No space left on device", out)
            subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
            if found := found + scene.unequal_end(out):
                failures.append((f"{size} kB", found))
    tell("a disk that is full after so many kB", failures, len(sizes), f"({stopped} met the end of it)")
    assert stopped >= 8


def test_a_full_disk_is_told_with_the_bytes_needed_and_free(scene: Scene) -> None:
    with mounted(scene.path / "told", "size=120k"):
        err = scene.run("told/run").err.splitlines()[-1]
    assert "cannot write told/run/checkpoints/" in err
    assert re.search(r"No space left on device \(needs \d\d\.\d kB, \d+\.\d kB free\)\. ", err)
    assert err.endswith(" Free some space and run it again; a run goes on with --resume.")


def test_a_limit_on_the_size_of_files_is_told_with_the_bytes_needed(scene: Scene) -> None:
    err = scene.run("too-large", before=partial(limit_file_size, 30_000)).err.splitlines()[-1]
    assert re.search(r"cannot write too-large/checkpoints/step-000000002.pt: File too large \(needs \d\d\.\d kB, ", err)


def limit_file_size(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def test_a_limit_on_the_size_of_files_loses_nothing(scene: Scene, trials: int) -> None:
    random, failures, stopped = seeded("ulimit -f"), [], 0
    sizes = [1500, 4096, 16384, 49152, 53248] + [random.randrange(1500, 60000) for _ in range(max(3, trials // 4))]
    for number, size in enumerate(sizes):
        out = f"limited-{number}"
        result = scene.run(out, before=partial(limit_file_size, size))
        stopped += result.code == 5
        found = stop_faults(scene.path / out, result, "File too large", "ulimit -f") + scene.unequal_end(out)
        if found:
            failures.append((size, found))
    tell("a limit on the size of files (ulimit -f)", failures, len(sizes), f"({stopped} met it)")
    assert stopped >= len(sizes) // 2


def limit_open_files(more: int) -> None:
    import matplotlib.font_manager  # noqa: F401 - reads its cache, which is no file of the run

    number = len(os.listdir("/proc/self/fd")) - 1 + more  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


def test_too_few_open_files_lose_nothing(scene: Scene) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc: limits on open files are NOT tried")
    failures, stopped = [], 0
    for more in range(6):
        result = scene.run(f"files-{more}", before=partial(limit_open_files, more))
        stopped += result.code == 5
        found = stop_faults(scene.path / f"files-{more}", result, "Too many open files", "ulimit -n")
        if found := found + scene.unequal_end(f"files-{more}"):
            failures.append((more, found))
    tell("a limit on open files (ulimit -n)", failures, 6, f"({stopped} met it)")
    assert stopped >= 2


def test_a_run_folder_that_is_moved_away_is_named_and_goes_on_when_it_is_back(scene: Scene, trials: int) -> None:
    random, failures, stopped = seeded("moved"), [], 0
    total = max(5, trials // 5)
    for trial in range(total):
        out, away = f"moved-{trial}", scene.path / f"away-{trial}"
        running = scene.start(out, before=without_page)
        while running.is_alive() and len(list((scene.path / out).glob("checkpoints/step-*.pt"))) < 2:
            time.sleep(0.001)
        running.process.join(random.uniform(0, 0.1))
        (scene.path / out).rename(away)
        result = running.wait()
        stopped += result.code == 5
        # What was being written when the folder went cannot be removed there; the next start does that.
        found = [fault for fault in stop_faults(away, result, "No such file", out) if not fault.endswith(".tmp")]
        found += [f"{out} was made again"] if (scene.path / out).exists() else []
        shutil.rmtree(scene.path / out, ignore_errors=True)
        away.rename(scene.path / out)
        if found := found + scene.unequal_end(out):
            failures.append((trial, found))
    tell("a run folder that vanishes and comes back", failures, total, f"({stopped} met it)")


def become_nobody() -> None:
    import encodings.utf_8_sig  # noqa: F401 - Python itself may lie where nobody may read

    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


def test_a_folder_without_permission_is_told_in_one_sentence_and_left_as_it_is(photos: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        os.umask(os.umask(0) & 0o022)
        scene = Scene(folder)
        (folder / "run.yaml").write_text(f"data: {{name: folder, root: {folder}/photos}}\ntrain: {{steps: 3}}\n")
        shutil.copytree(photos, folder / "photos")
        (folder / "closed").mkdir(mode=0o555)
        failures = []
        for out in ("closed", "closed/run"):
            result = scene.run(out, before=become_nobody)
            if not one_sentence(result, 5, f"ptft: cannot create {out}", "Permission denied", "Check the permissions."):
                failures.append((out, result))
        assert list((folder / "closed").iterdir()) == []
        tell("a folder without permission to write", failures, 2)


def test_a_read_only_file_system_is_told_in_one_sentence(scene: Scene) -> None:
    with mounted(scene.path / "sealed", "ro"):
        result = scene.run("sealed/run")
        failures = [] if one_sentence(result, 5, "cannot create sealed/run", "Read-only file system") else [result]
    tell("a read-only file system", failures, 1)


def fill_stdout() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def test_a_result_that_stdout_cannot_take_is_told(scene: Scene) -> None:
    result = scene.run("whole", before=fill_stdout)
    assert one_sentence(result, 5, "cannot write the result to stdout: No space left on device.")


def test_control_a_line_of_metrics_that_is_torn_or_doubled_is_noticed(scene: Scene, tmp_path: Path) -> None:
    lines = (scene.path / "whole" / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(lines)
    assert metrics_faults(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text(lines[:-9])
    assert metrics_faults(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(lines + lines.splitlines(keepends=True)[-1])
    assert metrics_faults(tmp_path)


def kill_in_an_evaluation(after: int) -> None:
    """A signal arrives in an evaluation; or, `after` its line was written, the process is killed."""
    import ptft.run.training
    from ptft.report.journal import Journal

    without_page()
    if after:
        told = Journal.validation

        def tell_and_die(journal: Journal, step: int, *news: object) -> None:
            told(journal, step, *news)  # type: ignore[arg-type]
            if step == after:
                os.kill(os.getpid(), signal.SIGKILL)

        Journal.validation = tell_and_die  # type: ignore[method-assign, assignment]
        return
    evaluate = ptft.run.training.evaluate

    def interrupted(*arguments: object, **more: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*arguments, **more)  # type: ignore[arg-type]

    ptft.run.training.evaluate = interrupted  # type: ignore[assignment]


def test_an_evaluation_that_a_signal_and_then_a_kill_interrupt_is_told_once(scene: Scene) -> None:
    assert scene.run("twice", before=partial(kill_in_an_evaluation, 0)).code == 128 + signal.SIGTERM
    assert scene.run("twice", before=partial(kill_in_an_evaluation, 4)).code == -signal.SIGKILL
    assert scene.unequal_end("twice") == []


def count_steps_only() -> None:
    """Breaks the rule that an evaluation counts when its scores were saved."""
    import ptft.report.journal

    kill_in_an_evaluation(4)
    ptft.report.journal._is_behind = lambda line, progress: line["step"] <= progress.step


def test_control_an_evaluation_that_is_told_twice_is_noticed(scene: Scene) -> None:
    assert scene.run("doubled", before=partial(kill_in_an_evaluation, 0)).code == 128 + signal.SIGTERM
    for _ in range(2):
        assert scene.run("doubled", before=count_steps_only).code == -signal.SIGKILL
    assert metrics_faults(scene.path / "doubled")
