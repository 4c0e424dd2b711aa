"""NaN and infinity, from images or from a learning rate, at random steps: none gets into a checkpoint."""

import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from faults.program import Before
from faults.scene import STEPS, Scene, leftovers, make_scene, one_sentence, seeded, tell, without_page
from making import Result

from ptft import checkpoint


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("not-finite"), checkpoint={"every": {"steps": 1}, "keep": 3})


def spoil_images(step: int, value: float) -> None:
    """From this step on one pixel of each batch is `value`, as broken memory or a broken reader would have it."""
    from ptft.data.batches import Batch, Batches

    without_page()
    at = Batches.at

    def spoilt(batches: Batches, number: int) -> Batch:
        batch = at(batches, number)
        if number >= step:
            batch.images[0, 0, 0, 0] = value
        return batch

    Batches.at = spoilt  # type: ignore[method-assign]


def spoil_lr(step: int, value: float) -> None:
    """From this step on the learning rate is `value`."""
    from ptft.train.schedule import Schedule

    without_page()
    factor = Schedule.factor
    Schedule.factor = lambda schedule, number: value if number >= step else factor(schedule, number)  # type: ignore[method-assign]


def spoilt_tensors(folder: Path) -> list[str]:
    """Tensors with a value that is not finite, in any checkpoint."""
    found = []
    for path in sorted((folder / "checkpoints").glob("*.pt")):
        tensors = checkpoint.read(path).tensors
        found += [f"{path.name} {name}" for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    return found


def end_faults(folder: Path, result: Result) -> list[str]:
    """What is wrong with a run that met a number that is not finite."""
    faults = [] if one_sentence(result, 6, "not finite", "optim.lr") else [f"{result.code}: {result.err}"]
    faults += spoilt_tensors(folder) + leftovers(folder)
    if json.loads((folder / "status.json").read_text())["exit_code"] != 6:
        faults.append("status.json")
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    faults += [str(line) for line in lines if not all(map(math.isfinite, line.values()))]
    return faults


def test_no_number_that_is_not_finite_gets_into_a_checkpoint(scene: Scene, trials: int) -> None:
    random, failures = seeded("not finite"), []
    total = trials if trials > 25 else trials // 2
    for trial in range(total):
        step = random.randrange(STEPS - 1)
        causes: list[Before] = [
            partial(spoil_images, step, math.nan),
            partial(spoil_images, step, math.inf),
            partial(spoil_images, step, 3e38),
            partial(spoil_lr, step, 1e38),
            partial(spoil_lr, step, 1e25),
            partial(spoil_lr, step, 1e15),
        ]
        optimizer = ("--set", "optim.name=adamw") if trial % 4 == 3 else ()
        result = scene.run(f"spoilt-{trial}", *optimizer, before=causes[trial % len(causes)])
        if found := end_faults(scene.path / f"spoilt-{trial}", result):
            failures.append((trial, causes[trial % len(causes)], found))
    tell("NaN, infinity or a huge learning rate at a random step: exit 6, every checkpoint finite", failures, total)


def look_away(step: int) -> None:
    """Breaks the checks: every number passes for finite; and nothing is told, since JSON would refuse."""
    from ptft.report.journal import Journal

    spoil_images(step, math.nan)
    math.isfinite = lambda value: True
    torch.isfinite = lambda tensor: torch.ones_like(tensor, dtype=torch.bool)
    Journal.train = Journal.validation = lambda *news: None  # type: ignore[method-assign, assignment]


def test_control_a_run_that_does_not_check_has_nan_in_its_checkpoints(scene: Scene) -> None:
    scene.run("unchecked", before=partial(look_away, 5))
    assert spoilt_tensors(scene.path / "unchecked")
