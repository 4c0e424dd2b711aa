"""A loss or gradient that is not finite never reaches a weight, an average or a file."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from making import Ptft, write_config
from torch import nn

from ptft import checkpoint
from ptft.models.classifier import Classifier

STEPS = 24


@pytest.fixture
def saving_config(tmp_path: Path, photos: Path) -> Path:
    """A run that has everything a NaN could hide in, with a checkpoint every 4 steps."""
    return write_config(
        tmp_path / "run.yaml",
        augment={"name": "photo"},
        model={"dropout": 0.2},
        train={"steps": STEPS, "ema": 0.9, "evaluate_every": {"steps": 8}},
        checkpoint={"every": {"steps": 4}, "keep": 9},
    )


@contextmanager
def poisoned(*steps: int, value: float = math.nan) -> Iterator[list[int]]:
    """The images of these training steps, counted from 1, get one pixel that is not finite, whenever they come.

    A batch is known by its images, so the same one is poisoned again when it comes again. Yields the poisonings.
    """
    seen: list[torch.Tensor] = []
    bad: list[torch.Tensor] = []
    hits: list[int] = []

    def poison(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not isinstance(module, Classifier) or not module.training:
            return None
        images = arguments[0]
        if not any(images.equal(known) for known in seen):
            seen.append(images.clone())
            if len(seen) in steps:
                bad.append(images.clone())
        if not any(images.equal(known) for known in bad):
            return None
        hits.append(len(seen))
        images = images.clone()
        images[0, 0, 0, 0] = value
        return (images,)

    handle = nn.modules.module.register_module_forward_pre_hook(poison)
    try:
        yield hits
    finally:
        handle.remove()


def tensors_on_disk(folder: Path) -> dict[str, torch.Tensor]:
    paths = sorted((folder / "checkpoints").glob("*.pt"))
    return {f"{path.name}:{name}": tensor for path in paths for name, tensor in checkpoint.read(path).tensors.items()}


def not_finite(folder: Path) -> list[str]:
    return [name for name, tensor in tensors_on_disk(folder).items() if not torch.isfinite(tensor).all()]


@pytest.mark.parametrize(("step", "value"), [(2, math.nan), (11, math.inf), (24, -math.inf)])
def test_a_run_stops_before_the_update_and_says_where_it_was(
    ptft: Ptft, saving_config: Path, step: int, value: float
) -> None:
    with poisoned(step, value=value):
        result = ptft("pretrain", saving_config)
    assert (result.code, result.out) == (6, "")
    sentence = result.err.splitlines()[-1]
    assert f"not finite at step {step} (learning rate " in sentence
    assert "the last finite loss was " in sentence
    newest = Path("runs/run/checkpoints/last.pt")
    assert newest.exists() == (step > 4)
    assert (f"The last good checkpoint is {newest}" in sentence) == (step > 4)
    assert not_finite(Path("runs/run")) == []


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_learning_rate_that_blows_up_leaves_no_such_number_in_any_file(
    ptft: Ptft, saving_config: Path, name: str
) -> None:
    settings = [f"optim={{name: {name}, lr: 1e30}}", "schedule={name: constant, warmup: {steps: 0}}"]
    flags = [part for text in [*settings, "checkpoint.every={steps: 1}"] for part in ("--set", text)]
    for number, mode in enumerate(("stop", "skip", "rollback")):
        result = ptft("pretrain", saving_config, *flags, "--set", f"train.on_nonfinite={mode}", "--out", str(number))
        assert result.code == 6, result.err
        assert not_finite(Path(str(number))) == []


def test_the_check_sees_such_a_number(tmp_path: Path, ptft: Ptft, config: Path) -> None:
    saved = checkpoint.read(ptft("pretrain", config).path)
    spoilt = dict(saved.tensors) | {"head.bias": torch.full_like(saved.tensors["head.bias"], math.nan)}
    checkpoint.write(Path("runs/run/checkpoints/best.pt"), saved.metadata, spoilt)
    assert not_finite(Path("runs/run")) == ["best.pt:head.bias"]


def test_skip_leaves_the_update_out_says_so_and_counts(ptft: Ptft, saving_config: Path) -> None:
    with poisoned(3, 10):
        result = ptft("pretrain", saving_config, "--json", "--set", "train.on_nonfinite=skip")
    assert result.code == 0, result.err
    assert result.json["num_nonfinite"] == 2
    assert result.json["steps"] == STEPS
    assert "not finite at step 10 " in result.err
    assert "its update is left out, 2 so far" in result.err
    before, after = (checkpoint.read(Path(f"runs/run/checkpoints/step-{step:09d}.pt")).tensors for step in (8, 12))
    assert not_finite(Path("runs/run")) == []
    assert any(not before[name].equal(after[name]) for name in before)


def test_skip_ends_the_run_when_it_happens_too_often(ptft: Ptft, saving_config: Path) -> None:
    settings = ["--set", "train.on_nonfinite=skip", "--set", "train.max_nonfinite=2"]
    with poisoned(3, 10, 11):
        result = ptft("pretrain", saving_config, *settings)
    assert result.code == 6
    assert "not finite at step 11" in result.err
    assert "train.max_nonfinite: 2 allows no more" in result.err


def differing(first: Path, second: Path) -> list[str]:
    a, b = tensors_on_disk(first), tensors_on_disk(second)
    return [name for name in a.keys() & b.keys() if not a[name].equal(b[name])] + sorted(a.keys() ^ b.keys())


def test_a_run_with_a_skip_that_was_interrupted_ends_with_the_same_bits(ptft: Ptft, saving_config: Path) -> None:
    skip = ["--set", "train.on_nonfinite=skip", "--set", "train.max_nonfinite=2", "--out"]
    with poisoned(3, 10):
        assert ptft("pretrain", saving_config, *skip, "whole").code == 0
    with poisoned(3, 10, 13):
        assert ptft("pretrain", saving_config, *skip, "cut").code == 6
    result = ptft("pretrain", saving_config, *skip, "cut", "--resume", "--json")
    assert "resumed at step 12" in result.err
    assert result.json["num_nonfinite"] == 2
    assert differing(Path("whole"), Path("cut")) == []
    assert Path("whole/metrics.jsonl").read_text() == Path("cut/metrics.jsonl").read_text()


def test_rollback_goes_back_halves_the_learning_rate_and_leaves_the_batch_out(ptft: Ptft, saving_config: Path) -> None:
    with poisoned(10) as hits:
        result = ptft("pretrain", saving_config, "--json", "--set", "train.on_nonfinite=rollback")
    assert result.code == 0, result.err
    assert hits == [10]
    assert "back to step 8, from there with the learning rate times 0.5; back 1 times so far" in result.err
    assert (result.json["steps"], result.json["num_nonfinite"]) == (STEPS, 1)
    assert not_finite(Path("runs/run")) == []
    progress = checkpoint.read(Path("runs/run/checkpoints/last.pt")).metadata.progress
    assert (progress["left_out"], progress["lr_factor"]) == ([9], 0.5)
    steps = [line for line in Path("runs/run/metrics.jsonl").read_text().splitlines() if '"train_loss"' in line]
    assert len(steps) == len(set(steps)) == STEPS - 1


def test_rollback_before_the_first_checkpoint_goes_back_to_the_start(ptft: Ptft, saving_config: Path) -> None:
    with poisoned(2):
        result = ptft("pretrain", saving_config, "--set", "train.on_nonfinite=rollback")
    assert result.code == 0, result.err
    assert "back to step 0" in result.err


def test_a_run_that_stopped_can_go_on_by_rollback(ptft: Ptft, saving_config: Path) -> None:
    with poisoned(10):
        assert ptft("pretrain", saving_config).code == 6
        result = ptft("pretrain", saving_config, "--resume", "--set", "train.on_nonfinite=rollback")
    assert result.code == 0, result.err
    assert "resumed at step 8" in result.err
