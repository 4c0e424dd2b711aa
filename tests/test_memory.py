"""When memory runs out, a step is computed in smaller pieces, and comes to the same."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from making import COLOURS, Ptft, make_images, write_config
from torch import nn

from ptft import checkpoint
from ptft.data.batches import Batch
from ptft.errors import OutOfMemoryError
from ptft.models import SmallCnn
from ptft.models.classifier import Classifier
from ptft.objectives import Supervised
from ptft.runtime import first_line, is_out_of_memory
from ptft.train.optim import Sgd
from ptft.train.state import State
from ptft.train.step import Stepper


@contextmanager
def room_for(number: int, kind: type[nn.Module] = Classifier, evaluating: bool = False) -> Iterator[list[int]]:
    """A machine on which the last layers of a forward pass have memory for so many images. Yields what it refused."""
    refused: list[int] = []

    def refuse(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, kind) and (module.training or evaluating) and len(arguments[0]) > number:
            refused.append(len(arguments[0]))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has no more.")

    handle = nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        yield refused
    finally:
        handle.remove()


class Norm(nn.Module):
    """A classifier without batch norm, for which cutting the batch changes rounding only."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3 * 8 * 8, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.first(images.flatten(1))).relu())


def batch_of(count: int) -> Batch:
    labels = torch.arange(count) % 3
    images = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + labels[:, None, None, None]
    return Batch(images, labels, torch.arange(count))


def make(model: nn.Module, said: list[str], accumulate: int = 1) -> tuple[State, Stepper]:
    state = State(model, Sgd().build(model), None, torch.amp.GradScaler("cpu", enabled=False))  # type: ignore[arg-type]
    objective = Supervised().build([4, 4, 4], seed=0)
    cpu = torch.device("cpu")
    return state, Stepper(objective, cpu, "fp32", torch.contiguous_format, 0, accumulate, say=said.append)


@pytest.mark.parametrize(("room", "refused"), [(12, [24]), (5, [24, 12, 6]), (1, [24, 12, 6, 3, 2])])
def test_smaller_micro_batches_give_the_same_weights(room: int, refused: list[int]) -> None:
    """Within 1e-5 of the step that had room for the whole batch."""
    said: list[str] = []
    torch.manual_seed(0)
    first = Norm()
    (whole, stepper), (cut, cut_stepper) = make(first, said), make(Norm(), said)
    cut.model.load_state_dict(first.state_dict())
    with room_for(room, nn.LayerNorm) as refusals:
        for _ in range(3):
            loss = cut_stepper.step(cut, batch_of(24), lr=0.1)
            cut.progress.step += 1
    for _ in range(3):
        expected = stepper.step(whole, batch_of(24), lr=0.1)
        whole.progress.step += 1
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(cut.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert refusals == refused
    assert len(said) == len(refused)
    assert "out of memory at step 1: micro-batches of 12 images instead of 24 from now on, still 24 a step" in said[0]


def test_a_step_that_began_anew_is_the_step_that_was_cut_from_the_start() -> None:
    """Bit for bit, with dropout and batch norm: random numbers and statistics are those from before the step."""
    ended = []
    for accumulate, room in ((4, 24), (1, 6)):
        torch.manual_seed(0)
        state, stepper = make(SmallCnn(name="small-cnn", width=4, dropout=0.5).build(3, 3), [], accumulate)
        with room_for(room):
            for _ in range(3):
                stepper.step(state, batch_of(24), lr=0.1)
                state.progress.step += 1
        ended.append(state.tensors())
    assert [name for name, tensor in ended[0].items() if not tensor.equal(ended[1][name])] == []


def test_the_comparison_sees_statistics_that_were_not_put_back() -> None:
    """One forward pass more, as a failed attempt would leave it, is not the same state."""
    torch.manual_seed(0)
    state, _ = make(SmallCnn(name="small-cnn", width=4).build(3, 3), [])
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    state.model.train()(batch_of(6).images)
    assert [name for name, tensor in state.tensors().items() if not tensor.equal(before[name])]


@pytest.mark.parametrize(("model", "smallest"), [(Norm(), 1), (SmallCnn(name="small-cnn", width=4).build(3, 3), 2)])
def test_when_the_smallest_do_not_fit_the_error_says_what_to_change(model: nn.Module, smallest: int) -> None:
    state, stepper = make(model, [])
    kind = nn.LayerNorm if smallest == 1 else Classifier
    with (
        room_for(0, kind),
        pytest.raises(OutOfMemoryError, match=f"micro-batches of {smallest}, the smallest") as error,
    ):
        stepper.step(state, batch_of(24), lr=0.1)
    assert "data.image_size" in str(error.value)


def test_another_error_is_not_taken_for_it() -> None:
    state, stepper = make(Norm(), [])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        stepper.step(state, Batch(torch.zeros(4, 3, 9, 9), torch.zeros(4, dtype=torch.int64), torch.arange(4)), lr=0.1)
    assert state.progress.accumulate == 1


def test_a_run_goes_on_in_smaller_pieces_and_so_does_its_resumption(ptft: Ptft, config: Path) -> None:
    saving = ["--set", "checkpoint.every={steps: 4}", "--set", "train.steps=12"]
    with room_for(4) as refused:
        result = ptft("pretrain", config, *saving, "--set", "train.max_minutes=0.0001")
        assert result.code == 0, result.err
        assert result.err.count("out of memory at step 1: micro-batches of 4 images instead of 8") == 1
        again = ptft("pretrain", config, *saving, "--resume", "--json")
    assert again.json["steps"] == 12
    assert "out of memory" not in again.err
    assert refused == [8]
    assert checkpoint.read(Path("runs/run/checkpoints/last.pt")).metadata.progress["accumulate"] == 2


def test_a_run_without_room_for_the_smallest_exits_7_and_does_not_lose_its_checkpoint(ptft: Ptft, config: Path) -> None:
    assert ptft("pretrain", config).code == 0
    with room_for(1):
        result = ptft("pretrain", config, "--resume", "--set", "train.steps=20")
    assert (result.code, result.out) == (7, "")
    assert result.err.splitlines()[-1].startswith("ptft: out of memory at step 13 with micro-batches of 2")
    assert checkpoint.read(Path("runs/run/checkpoints/last.pt")).metadata.step == 12


def test_evaluation_takes_smaller_batches_too(ptft: Ptft, config: Path) -> None:
    path = ptft("pretrain", config).path
    expected = ptft("evaluate", path, "--json").json
    with room_for(3, evaluating=True) as refused:
        found = ptft("evaluate", path, "--json").json
    assert refused
    assert found["confusion"] == expected["confusion"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)


LIMITED = """
import resource, sys
from torch import nn
from ptft.cli import main
from ptft.models.classifier import Classifier
room = int(sys.argv.pop(1)) << 20
soft = resource.RLIM_INFINITY
def limit(module, arguments):
    global soft
    if not isinstance(module, Classifier):
        return
    if not module.training:
        soft = resource.RLIM_INFINITY
    elif soft == resource.RLIM_INFINITY:
        size = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
        soft = size + room
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))
nn.modules.module.register_module_forward_pre_hook(limit)
main()
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.8 GiB of which 1.5", "GiB"),
        ("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com", "memory"),
        ("Triton Error [CUDA]: out of memory", "memory"),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "FAILED"),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "FAILED"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "`cublasCreate(handle)`"),
        ("backend='inductor' raised:\nOutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB.", "raised:"),
        ("could not create a primitive", "primitive"),
        (
            "[enforce fail at alloc_cpu.cpp:12] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
            "tried",
        ),
    ],
)
def test_every_way_in_which_torch_says_that_memory_ran_out_is_known_and_told_in_short(text: str, told: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert first_line(RuntimeError(text)).endswith(told)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: device-side assert triggered",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "could not create a primitive descriptor for a convolution",
        "Expected all tensors to be on the same device",
    ],
)
def test_other_errors_are_not_taken_for_it(text: str) -> None:
    assert not is_out_of_memory(RuntimeError(text))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to know the memory in use")
def test_a_process_with_little_memory_finishes_its_run(tmp_path: Path) -> None:
    """A real limit while it trains: the activations of a whole batch are more than it leaves."""
    make_images(tmp_path / "photos", COLOURS, 64, size=64)
    config = write_config(tmp_path / "run.yaml", model={"width": 32}, train={"steps": 1, "batch_size": 128})
    # One arena, and every large block a mapping of its own: what is freed goes back to the system.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", LIMITED, "150", "pretrain", str(config), "--out", "limited"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert (
        "out of memory at step 1: micro-batches of 64 images instead of 128 from now on, still 128 a step (DefaultCPU"
        in done.stderr
    )
