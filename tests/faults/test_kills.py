"""kill -9 at random instants: the run goes on and ends with the same bits as one that was never killed."""

import itertools
import signal
import time
from pathlib import Path

import pytest
from faults.program import Running
from faults.scene import STEPS, Scene, leftovers, make_scene, seeded, tell

LONG = {"steps": 160, "ema": 0.9, "evaluate_every": {"steps": 5}, "clip_norm": 1.0}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="module")
def run_seconds(scene: Scene) -> float:
    """How long a whole run takes, report included."""
    began = time.monotonic()
    assert scene.run("timed").code == 0
    return time.monotonic() - began


def kill_at(running: Running, seconds: float) -> bool:
    """Kills after some time; whether the run was not over by then."""
    running.process.join(seconds)
    running.send(signal.SIGKILL)
    return running.wait().code == -signal.SIGKILL


def kill_inside_a_save(running: Running, folder: Path, number: int, seconds: float) -> bool:
    """Kills while the `number`-th checkpoint seen since the start is being written; whether half of it was left."""
    checkpoints, seen = folder / "checkpoints", set[str]()
    while running.is_alive() and len(seen) < number:
        seen |= {path.name for path in checkpoints.glob(".step-*.tmp")}
        time.sleep(0.0003)
    return kill_at(running, seconds) and bool(leftovers(checkpoints))


def kill_after_saves(running: Running, folder: Path, number: int, seconds: float) -> bool:
    """Kills some time after so many new checkpoints are there."""
    checkpoints, seen = folder / "checkpoints", set[str]()
    before = {path.name for path in checkpoints.glob("step-*.pt")}
    while running.is_alive() and len(seen - before) < number:
        seen |= {path.name for path in checkpoints.glob("step-*.pt")}
        time.sleep(0.002)
    return kill_at(running, seconds)


def test_runs_killed_at_random_instants_end_bit_identical(scene: Scene, run_seconds: float, trials: int) -> None:
    random, failures = seeded("kills"), []
    for trial in range(trials):
        for attempt in range(50):  # until a kill is where it is meant to be: a save is over in milliseconds
            out = f"killed-{trial}-{attempt}"
            running = scene.start(out)
            if trial % 2:
                landed = kill_at(running, random.uniform(0, run_seconds))
            else:
                place = scene.path / out, random.randint(1, STEPS // 2), random.uniform(0, 0.002)
                landed = kill_inside_a_save(running, *place)
            if landed:
                break
        if found := scene.unequal_end(out) if landed else ["no kill"]:
            failures.append((trial, found))
    note = f"({(trials + 1) // 2} of them inside a save)"
    tell("kill -9 at a random instant, resumed, bit-identical", failures, trials, note)


def test_one_run_killed_20_times_ends_bit_identical(tmp_path: Path) -> None:
    random, scene, kills = seeded("20 kills"), make_scene(tmp_path, train=LONG), 0
    for _ in range(20):
        place = tmp_path / "often", random.randint(0, 3), random.uniform(0, 0.03)
        kills += kill_after_saves(scene.start("often"), *place)
    found = scene.unequal_end("often")
    tell("20 kills in one run, bit-identical", [found] if found or kills < 20 else [], 1, f"({kills} kills)")


def counted_seeds() -> None:
    """Breaks the rule that randomness is a function of where it is used: here it depends on what ran before."""
    import ptft.train.step

    numbers = itertools.count()
    ptft.train.step.derive_seed = lambda *parts: next(numbers)


def test_control_seeds_that_depend_on_what_ran_before_are_noticed(scene: Scene) -> None:
    assert scene.run("counted", before=counted_seeds).code == 0
    assert scene.run("counted-again", before=counted_seeds).code == 0
    assert scene.differences("counted-again", than="counted") == []
    running = scene.start("counted-killed", before=counted_seeds)
    assert kill_inside_a_save(running, scene.path / "counted-killed", 4, 0) or not running.is_alive()
    assert scene.run("counted-killed", before=counted_seeds).code == 0
    assert any("backbone" in name for name in scene.differences("counted-killed", than="counted"))
