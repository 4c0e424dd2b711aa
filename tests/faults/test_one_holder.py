"""Processes started together on one run folder: one holds it, the others say who; a killed holder frees it."""

import fcntl
import signal
import socket
import time

import pytest
from faults.program import Before, Running, nothing
from faults.scene import Scene, make_scene, one_sentence, seeded, tell

_PROCESSES = 6


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("holder"))


def start_together(scene: Scene, before: Before = nothing) -> list[Running]:
    """Processes on one folder, for a run that none of them will finish; returns when at most one still runs."""
    started = [scene.start("held", "--set", "train.steps=100000", before=before) for _ in range(_PROCESSES)]
    deadline = time.monotonic() + 20
    while sum(running.is_alive() for running in started) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    return started


def round_faults(scene: Scene, started: list[Running]) -> list[str]:
    """What is wrong with one round; its holder is killed."""
    holders = [running for running in started if running.is_alive()]
    faults = [] if len(holders) == 1 else [f"{len(holders)} of {_PROCESSES} hold the folder"]
    for running in holders:
        running.send(signal.SIGKILL)
    names = [f"held is in use by process {running.pid} on {socket.gethostname()}." for running in holders]
    for running in started:
        result = running.wait()
        if running not in holders and not one_sentence(result, 75, *names):
            faults.append(f"{result.code}: {result.err}")
    return faults


def test_of_six_processes_one_holds_the_folder_and_the_others_name_it(scene: Scene, trials: int) -> None:
    random, failures, total = seeded("rounds"), [], 20 if trials > 25 else max(2, trials // 5)
    for number in range(total):
        started = start_together(scene)
        time.sleep(random.uniform(0, 0.3))
        if found := round_faults(scene, started):
            failures.append((number, found))
    tell("six processes on one folder: one holds it, five exit 75 and name it; free after kill -9", failures, total)


def unlocked() -> None:
    """Breaks the lock."""
    fcntl.flock = lambda file, operation: None


def test_control_processes_that_do_not_lock_are_noticed(scene: Scene) -> None:
    started = [scene.start("held", "--set", "train.steps=100000", before=unlocked) for _ in range(3)]
    while any(running.is_alive() and "data:" not in running.err.read_text() for running in started):
        time.sleep(0.01)
    assert round_faults(scene, started)
