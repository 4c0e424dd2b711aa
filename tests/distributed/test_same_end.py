"""Whatever happens to one rank, all end alike and in time, nothing is left, and the run goes on to the same weights."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed.job import BOUND, Job, differing, run_job, saved_steps, start_job, wait_for, weights
from making import COLOURS, make_images, write_config

RUN = ("pretrain", "run.yaml", "--resume", "--out")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 60 steps with everything random in it, and its uninterrupted end on two ranks in `whole/`."""
    path = tmp_path_factory.mktemp("ends")
    make_images(path / "photos", COLOURS, 12)
    write_config(
        path / "run.yaml",
        augment={"name": "photo"},
        model={"dropout": 0.3},
        objective={"mixup": 0.2},
        train={"steps": 60, "ema": 0.9, "evaluate_every": {"steps": 20}},
        checkpoint={"every": {"steps": 2}},
    )
    assert run_job(2, *RUN, "whole", cwd=path).code == 0
    return path


def slow_down() -> None:
    """Steps slow enough to be met in the middle of the run."""
    import ptft.train.loop

    step = ptft.train.loop._Loop._step

    def slow(loop: Any) -> None:
        time.sleep(0.02)
        step(loop)

    ptft.train.loop._Loop._step = slow  # type: ignore[method-assign]


def begin(scene: Path, out: str, **more: Any) -> Job:
    """Two ranks in the middle of the run."""
    job = start_job(2, *RUN, out, cwd=scene, before=slow_down, **more)
    wait_for(lambda: len(saved_steps(scene / out)) > 1 or not job.ranks[0].is_alive())
    return job


def status(scene: Path, out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((scene / out / "status.json").read_text())
    return found


def ends_like_the_whole(scene: Path, out: str) -> bool:
    result = run_job(2, *RUN, out, cwd=scene)
    assert result.code == 0, result.err
    return differing(weights(scene / out), weights(scene / "whole")) == []


@pytest.mark.parametrize(("rank", "signum"), [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_a_lost_rank_ends_the_others_in_time_and_the_run_goes_on(scene: Path, rank: int, signum: int) -> None:
    out = f"lost-{rank}-{int(signum)}"
    job = begin(scene, out)
    job.ranks[rank].send(signum)
    began = time.monotonic()
    survivor = job.ranks[1 - rank].wait(BOUND)
    assert time.monotonic() - began < BOUND
    assert survivor.code == 8, survivor.err
    assert survivor.err.rstrip().splitlines()[-1].startswith(f"ptft: rank {rank} (process {job.ranks[rank].pid} on ")
    job.ranks[rank].process.join(5)
    assert not job.ranks[rank].is_alive()
    told = status(scene, out)
    assert (told["state"], told["exit_code"], told["world_size"]) == ("failed", 8, 2)
    assert f"rank {rank}" in told["reason"]
    assert ends_like_the_whole(scene, out)


def deaf() -> None:
    """Breaks the watch: nobody listens."""
    import ptft.distributed.watch

    slow_down()
    ptft.distributed.watch.Watch._lost = lambda watch: None  # type: ignore[method-assign]


def test_control_without_the_watch_a_stopped_rank_is_waited_for(scene: Path) -> None:
    job = start_job(2, *RUN, "deaf", cwd=scene, before=deaf)
    wait_for(lambda: len(saved_steps(scene / "deaf")) > 1)
    job.ranks[1].send(signal.SIGSTOP)
    job.ranks[0].process.join(3)
    assert job.ranks[0].is_alive()
    for running in job.ranks:
        running.process.kill()
        running.process.join()


@pytest.mark.parametrize("ranks", [(0, 1), (1,)])
def test_a_signal_to_any_rank_stops_all_after_the_same_step(scene: Path, ranks: tuple[int, ...]) -> None:
    out = f"stopped-{len(ranks)}"
    job = begin(scene, out)
    for rank in ranks:
        job.ranks[rank].send(signal.SIGTERM)
    results = job.wait(BOUND)
    assert [result.code for result in results] == [143, 143], results
    assert sum("stopped by SIGTERM" in result.err for result in results) == 1
    assert status(scene, out)["state"] == "stopped"
    assert ends_like_the_whole(scene, out)


def hurry() -> None:
    """An hour passes between two steps."""
    from types import SimpleNamespace

    import ptft.distributed.agreement

    hours = iter(range(1000))
    clock = SimpleNamespace(monotonic=lambda: 3600.0 * next(hours))
    ptft.distributed.agreement.time = clock  # type: ignore[assignment]


@pytest.mark.parametrize(("rank", "reason"), [(0, "max_minutes reached"), (1, "all steps done")])
def test_the_time_of_rank_0_alone_ends_a_run(scene: Path, rank: int, reason: str) -> None:
    length = ("--set", "train.steps=6", "--set", "train.max_minutes=90")
    results = start_job(2, *RUN, f"timed-{rank}", *length, cwd=scene, broken={rank: hurry}).wait()
    assert [result.code for result in results] == [0, 0], results
    assert status(scene, f"timed-{rank}")["reason"] == reason


def run_out_of_memory() -> None:
    """A rank whose memory is enough for two images at a time."""
    from torch import nn

    from ptft.models.classifier import Classifier

    def refuse(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, Classifier) and module.training and len(arguments[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    nn.modules.module.register_module_forward_pre_hook(refuse)


def test_when_memory_runs_out_on_one_rank_all_cut_their_batches(scene: Path) -> None:
    size = ("--set", "train.steps=6")
    job = start_job(2, *RUN, "tight", *size, cwd=scene, broken={1: run_out_of_memory})
    results = job.wait()
    assert [result.code for result in results] == [0, 0], results
    assert "micro-batches of 2 images instead of 4 from now on, still 8 a step" in results[0].err
    assert run_job(2, *RUN, "halves", *size, "--set", "train.accumulate=2", cwd=scene).code == 0
    assert differing(weights(scene / "tight"), weights(scene / "halves")) == []


def run_out_of_memory_when_images_are_large() -> None:
    """A rank whose memory is enough for two images of 12 pixels at a time, and for any number of smaller ones."""
    from torch import nn

    from ptft.models.classifier import Classifier

    def refuse(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, Classifier) and module.training and len(arguments[0]) > 2 and arguments[0].shape[-1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    nn.modules.module.register_module_forward_pre_hook(refuse)


def test_when_memory_runs_out_as_the_images_grow_all_ranks_cut_their_batches(scene: Path) -> None:
    resize = "train.resize={initial_scale: 0.67, full_from: 0.5, num_sizes: 1}"
    size = ("--set", "train.steps=6", "--set", resize)
    job = start_job(2, *RUN, "grown", *size, cwd=scene, broken={1: run_out_of_memory_when_images_are_large})
    results = job.wait()
    assert [result.code for result in results] == [0, 0], results
    assert "train.resize: images of 8 pixels up to step 3, then 12." in results[0].err
    assert "at step 4: micro-batches of 2 images instead of 4 from now on, still 8 a step" in results[0].err


def lose_the_disk() -> None:
    """No state can be written."""
    import ptft.checkpoint
    from ptft.errors import StorageError

    def fail(*arguments: object) -> str:
        raise StorageError("cannot write it: no space left on device.")

    ptft.checkpoint.write = fail  # type: ignore[assignment]


def spoil_an_image_rank_1_alone_sees() -> None:
    """A data error on one rank."""
    import ptft.run.preparation
    from ptft.errors import DataError

    def fail(*arguments: object, **more: object) -> Callable[..., None]:
        raise DataError("photos/red/000.jpg: cannot be read: broken.")

    ptft.run.preparation.prepare = fail  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("rank", "harm", "code", "said"),
    [(0, lose_the_disk, 5, "no space left"), (1, spoil_an_image_rank_1_alone_sees, 3, "photos/red/000.jpg")],
)
def test_an_error_of_one_rank_is_that_of_all_and_told_once(
    scene: Path, rank: int, harm: Callable[[], None], code: int, said: str
) -> None:
    out = f"error-{code}"
    results = start_job(2, *RUN, out, cwd=scene, broken={rank: harm}).wait(BOUND)
    assert [result.code for result in results] == [code, code], results
    assert sum(said in result.err for result in results) == 1, results
    assert said in results[rank].err
    told = status(scene, out)
    assert (told["state"], told["exit_code"]) == ("failed", code)
    assert said in told["reason"]
    assert not any("Traceback" in result.err for result in results)


def test_a_finished_run_is_told_at_once_by_rank_0(scene: Path) -> None:
    result = run_job(2, *RUN, "whole", cwd=scene)
    assert result.path.name == "best.pt" or result.path.name == "last.pt"


def test_a_held_folder_ends_all_ranks_with_75(scene: Path) -> None:
    job = begin(scene, "held")
    second = run_job(2, *RUN, "held", cwd=scene)
    assert second.code == 75
    assert "is in use by process" in second.err
    for running in job.ranks:
        os.kill(running.pid, signal.SIGTERM)
    job.wait(BOUND)


def test_commands_of_one_process_refuse_to_be_ranks(scene: Path) -> None:
    result = run_job(2, "list", "models", cwd=scene)
    assert (result.code, result.out) == (2, "")
    assert "`ptft list` is the work of one process" in result.err
