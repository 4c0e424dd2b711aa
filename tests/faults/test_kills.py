"""kill -9 at random instants: the run goes on and ends with the same bits as one that was never killed."""

import itertools
import signal
import time
from pathlib import Path

import pytest
from faults.program import Running
from faults.scene import Scene, leftovers, make_scene, seeded, tell


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="module")
def run_seconds(scene: Scene) -> float:
    """How long a whole run takes, report included."""
    began = time.monotonic()
    assert scene.run("timed").code == 0
    return time.monotonic() - began


def kill_at(running: Running, seconds: float) -> None:
    running.process.join(seconds)
    running.send(signal.SIGKILL)
    running.wait()


def kill_inside_a_save(running: Running, folder: Path, number: int, seconds: float) -> bool:
    """Kills while the `number`-th temporary file seen since the start is being written; whether it was left behind."""
    checkpoints, seen = folder / "checkpoints", set[str]()
    while running.is_alive() and len(seen) < number:
        seen |= {path.name for path in checkpoints.glob(".step-*.tmp")}
    running.process.join(seconds)
    running.send(signal.SIGKILL)
    running.wait()
    return bool(leftovers(checkpoints))


def test_runs_killed_at_random_instants_end_bit_identical(scene: Scene, run_seconds: float, trials: int) -> None:
    random, failures = seeded("kills"), []
    inside = kills = 0
    for trial in range(trials):
        out = f"killed-{trial}"
        aims_inside = trial % 2 == 0
        landed = False
        for _ in range(8):
            running, kills = scene.start(out), kills + 1
            if aims_inside:
                landed = kill_inside_a_save(running, scene.path / out, random.randint(1, 6), random.uniform(0, 0.002))
            else:
                kill_at(running, random.uniform(0, run_seconds))
            if landed or not aims_inside:
                break
        inside += landed
        if found := scene.unequal_end(out):
            failures.append((trial, found))
    tell(
        "kill -9 at random instants, resumed bit-identical",
        failures,
        trials,
        f"({kills} kills, {inside} runs with one inside a save)",
    )
    assert inside >= trials // 3


def test_one_run_killed_many_times_ends_bit_identical(scene: Scene, run_seconds: float) -> None:
    random, kills = seeded("20 kills"), 0
    for _ in range(20):
        running = scene.start("often")
        running.process.join(random.uniform(0.1, 0.5) * run_seconds)
        kills += running.is_alive()
        kill_at(running, 0)
    found = scene.unequal_end("often")
    tell("20 kills in one run, which ends bit-identical", [found] if found else [], 1, f"({kills} kills)")


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
