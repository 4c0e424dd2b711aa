"""Steps through torch.compile: the same numbers up to rounding, bit for bit after a stop, told where it cannot be."""

import json
from pathlib import Path

import pytest
import torch
from making import COLOURS, Ptft, make_images, run_process, write_config

from ptft import checkpoint
from ptft.train.compiled import compiled_forward


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's compiler as far as its graphs of both passes, run as they are: to make kernels of them takes a minute."""
    real = torch.compile
    monkeypatch.setattr(
        "torch.compile", lambda function, dynamic, options: real(function, backend="aot_eager", dynamic=dynamic)
    )


def num_graphs() -> int:
    """Graphs that torch has made in this process so far."""
    import torch._dynamo.utils

    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    """A run of four steps with dropout, compiled."""
    make_images(tmp_path / "photos", COLOURS, 20)
    return write_config(
        tmp_path / "run.yaml",
        model={"dropout": 0.3},
        train={"steps": 4, "compile": True, "precision": "fp32", "memory_format": "contiguous"},
        schedule={"name": "constant"},
    )


def losses(folder: str) -> list[float]:
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [line["train_loss"] for line in lines if "train_loss" in line]


def tensors_of(folder: str) -> dict[str, torch.Tensor]:
    return dict(checkpoint.read(Path(folder) / "checkpoints" / "last.pt").tensors)


@pytest.mark.usefixtures("without_kernels")
def test_a_compiled_run_is_an_eager_one_up_to_rounding_and_after_a_stop_the_same_to_the_bit(
    ptft: Ptft, run_yaml: Path
) -> None:
    before = num_graphs()
    eager = ptft("pretrain", run_yaml, "--out", "eager", "--set", "train.compile=false")
    assert eager.code == 0
    assert num_graphs() == before
    whole = ptft("pretrain", run_yaml, "--out", "whole")
    assert whole.code == 0, whole.err
    assert num_graphs() == before + 1
    assert "train.compile: the first step compiles" in whole.err
    assert "train.compile" not in eager.err

    assert losses("whole") == pytest.approx(losses("eager"), rel=1e-4)
    expected, found = tensors_of("eager"), tensors_of("whole")
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5, msg=name)

    assert ptft("pretrain", run_yaml, "--out", "cut", "--set", "train.steps=2").code == 0
    assert ptft("pretrain", run_yaml, "--out", "cut", "--resume").code == 0
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors_of("cut").items())


def test_races_are_not_compiled_and_without_a_compiler_it_is_told_what_is_missing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    command = ["finetune", "--from", source, "--data", "photos", "--out", "run", "--set", "train.steps=40"]
    done = run_process(*command, "--set", "train.compile=true", "--set", "optim.lr=0.01", cwd=tmp_path)
    assert done.code == 2, done.err
    assert "auto: chose" in done.err
    assert "train.compile: torch cannot compile this network here" in done.err
    assert "/nowhere/g++" in done.err
    assert "train.compile: false" in done.err
    assert "Traceback" not in done.err
    assert json.loads((tmp_path / "run/status.json").read_text())["exit_code"] == 2
    assert run_process(*command, "--resume", "--set", "train.compile=false", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("key", "value"), [("sync_bn", "true"), ("deterministic", "elastic")], ids=["sync_bn", "elastic"]
)
def test_what_cannot_be_compiled_is_refused(ptft: Ptft, run_yaml: Path, key: str, value: str) -> None:
    done = ptft("pretrain", run_yaml, "--set", f"train.{key}={value}")
    assert done.code == 2
    assert "train: compile " in done.err
    assert "Leave one out" in done.err


@pytest.mark.usefixtures("without_kernels")
def test_many_sizes_are_each_compiled() -> None:
    compiled, network = compiled_forward(lambda: None), torch.nn.Conv2d(1, 1, 1)
    before = num_graphs()
    for side in range(4, 16):  # torch by itself compiles 8
        compiled(network, torch.ones(2, 1, side, side))
    assert num_graphs() == before + 12
