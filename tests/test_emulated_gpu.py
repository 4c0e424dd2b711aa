"""What can be known of runs on a GPU without one: no tensor is left in the wrong place, no step waits for the GPU."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from emulated_gpu import emulated_gpu
from making import Ptft, write_config
from making_tasks import MULTI, NUMBERS, Shapes, write

from ptft import checkpoint
from ptft.runtime import fetched

Waits = Counter[tuple[str, str]]

NOT_STEPS = ("train/loop.py", "train/saver.py", "checkpoint.py", "run/conclusion.py")
"""Looks at losses when a line is due, which is after each step of so short a run; save and load tensor by tensor."""


def of_steps(waits: Waits, num_steps: int) -> Waits:
    """What the host waited for in every step."""
    return Counter({place: n for place, n in waits.items() if n >= num_steps and not place[1].startswith(NOT_STEPS)})


@pytest.fixture
def gpu() -> Iterator[Waits]:
    with emulated_gpu() as waits:
        yield waits


@pytest.mark.parametrize("optim", ["sgd", "adamw", "muon"])
def test_a_run_ends_with_the_weights_of_a_cpu_and_waits_for_no_step(
    ptft: Ptft, photos: Path, tmp_path: Path, optim: str
) -> None:
    config = write_config(
        tmp_path / "rich.yaml",
        augment={"name": "photo", "erasing": 0.3, "hue": 0.1},
        model={"dropout": 0.3},
        objective={"mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1, "class_weights": "balanced"},
        optim={"name": optim},
        train={"steps": 24, "ema": 0.9, "clip_norm": 1.0, "accumulate": 2},
    )
    assert ptft("pretrain", config, "--out", "cpu").code == 0
    with emulated_gpu() as waits:
        found = ptft("pretrain", config, "--out", "gpu", "--set", "device=cuda", page=True)
    assert found.code == 0, found.err
    ours, theirs = (checkpoint.read(Path(f"{name}/checkpoints/last.pt")).tensors for name in ("gpu", "cpu"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert of_steps(waits, 24) == {}
    assert (
        sum(count for (name, place), count in waits.items() if name == "item" and place.startswith("train/loop")) >= 24
    )


@pytest.mark.parametrize(
    "transfer",
    [
        {},
        {"recipe": "probe"},
        {"recipe": "lp-ft", "bn": "recalibrate", "interpolate": True},
        {"recipe": "full", "l2_sp": 0.01, "layer_decay": 0.7, "co_tuning": 2.3, "dropout": 0.2},
        {"recipe": "gradual", "bn": "frozen"},
        {"recipe": "lp-ft", "soup": 2},
    ],
    ids=lambda transfer: "-".join(transfer.get("recipe", "auto").split() + sorted(transfer)[:1]),
)
def test_finetuning_and_what_asks_the_weights_afterwards(
    ptft: Ptft, source: Path, tmp_path: Path, gpu: Waits, transfer: dict[str, object]
) -> None:
    config = write_config(
        tmp_path / "finetune.yaml",
        device="auto",
        transfer=transfer,
        optim={"lr": 0.02},
        train={"steps": 16 if transfer else 40},
    )
    done = ptft("finetune", config, "--from", source, "--out", "run", "--set", "model=null")
    assert done.code == 0, done.err
    best = Path("run/checkpoints/best.pt")
    assert ptft("evaluate", best).code == 0
    assert ptft("predict", best, "photos").code == 0
    assert ptft("leak", best).code == 0
    assert gpu


@pytest.mark.parametrize(
    "sections",
    [MULTI | {"objective": {"class_weights": "balanced"}}, NUMBERS],
    ids=["multi-label", "regression"],
)
def test_other_tasks(ptft: Ptft, tmp_path: Path, gpu: Waits, sections: dict[str, object]) -> None:
    Shapes(tmp_path / "shapes")
    config = write(tmp_path / "run.yaml", sections, device="cuda")
    assert ptft("pretrain", config, "--out", "source").code == 0
    assert of_steps(gpu, 30) == {}
    done = ptft("finetune", config, "--from", "source/checkpoints/best.pt", "--out", "run", "--set", "model=null")
    assert done.code == 0, done.err
    assert ptft("evaluate", "run/checkpoints/best.pt").code == 0
    assert gpu


def test_the_same_bits_on_any_number_of_ranks_are_promised_on_cpus_only(ptft: Ptft, config: Path, gpu: Waits) -> None:
    done = ptft("pretrain", config, "--set", "device=cuda", "--set", "train.deterministic=elastic")
    assert done.code == 2
    assert "train.deterministic: elastic is for CPUs" in done.err


def test_what_is_fetched_from_a_gpu_is_waited_for_later(gpu: Waits) -> None:
    tensor = torch.arange(3.0, device="cuda")
    arrived = fetched(tensor)
    assert not gpu
    tensor.add_(1)  # after the copy, in the order of the stream
    assert arrived().tolist() == [0.0, 1.0, 2.0]
    assert not gpu


def test_control_a_wait_in_every_step_is_seen(
    ptft: Ptft, config: Path, gpu: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptft.data.batches.sent", lambda tensor, device: tensor.to(device))
    assert ptft("pretrain", config, "--out", "run", "--set", "device=cuda").code == 0
    assert {name for name, _ in of_steps(gpu, 12)} == {"to"}


def test_control_a_tensor_left_on_the_cpu_ends_the_run(
    ptft: Ptft, config: Path, gpu: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptft.data.batches.sent", lambda tensor, device: tensor)
    done = ptft("pretrain", config, "--out", "run", "--set", "device=cuda")
    assert done.code == 1
    assert "expected all tensors to be on the same device" in done.err
