"""A run that was killed or stopped goes on and ends with the very same bits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.program import Running, run, start
from faults.scene import without_page
from making import COLOURS, Ptft, make_images, write_config

from ptft import checkpoint

STEPS = 90


def write_rich(path: Path) -> Path:
    """A run with everything random: augmentation, dropout, mixing, EMA, momentum."""
    return write_config(
        path,
        augment={"name": "photo", "erasing": 0.3, "hue": 0.1},
        model={"dropout": 0.3},
        objective={"mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1},
        optim={"lr": 0.05},
        train={"steps": STEPS, "ema": 0.9, "evaluate_every": {"steps": 7}, "clip_norm": 1.0},
        checkpoint={"every": {"steps": 3}},
    )


@pytest.fixture
def rich_config(tmp_path: Path, photos: Path) -> Path:
    return write_rich(tmp_path / "run.yaml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of that run where nothing interrupts it."""
    folder = tmp_path_factory.mktemp("whole")
    make_images(folder / "photos", COLOURS, 20)
    write_rich(folder / "run.yaml")
    done = run("pretrain", "run.yaml", "--out", "whole", cwd=folder, before=without_page)
    assert done.code == 0, done.err
    return folder / done.out.strip()


def differing(first: Path, second: Path) -> list[str]:
    """Names of tensors that are not the same bits in two checkpoints."""
    a, b = checkpoint.read(first).tensors, checkpoint.read(second).tensors
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def start_run(out: str, cwd: Path) -> Running:
    return start("pretrain", "run.yaml", "--out", out, "--resume", cwd=cwd, before=without_page)


def saved_steps(folder: Path) -> int:
    """The newest step of which a checkpoint is there."""
    steps = sorted((folder / "checkpoints").glob("step-*.pt"))
    return int(steps[-1].stem.removeprefix("step-")) if steps else 0


def kill_after(process: Running, folder: Path, step: int, signum: int) -> None:
    """Sends a signal as soon as a checkpoint of this step or a later one is there."""
    deadline = time.monotonic() + 180
    while saved_steps(folder) < step and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send(signum)


def test_a_run_killed_three_times_ends_bit_identical_to_an_uninterrupted_one(
    ptft: Ptft, rich_config: Path, tmp_path: Path, whole: Path
) -> None:
    for step in (1, 25, 50):
        process = start_run("killed", tmp_path)
        kill_after(process, tmp_path / "killed", step, signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL
    resumed = ptft("pretrain", rich_config, "--out", "killed", "--resume")
    assert "resumed at step" in resumed.err
    assert differing(whole, resumed.path) == []
    assert differing(whole.with_name("last.pt"), resumed.path.with_name("last.pt")) == []
    metrics = [(path.parents[1] / "metrics.jsonl").read_text() for path in (whole, resumed.path)]
    assert metrics[0] == metrics[1]


def crash_after(links: int) -> None:
    """The process is gone before it gives a checkpoint its next name."""
    import ptft.train.saver

    link, left = ptft.train.saver.link_durably, [links]

    def crash(existing: Path, path: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        link(existing, path)

    ptft.train.saver.link_durably = crash


@pytest.mark.parametrize("links", [0, 3, 4])
def test_a_run_that_died_between_two_names_of_a_checkpoint_keeps_the_right_best(
    ptft: Ptft, rich_config: Path, tmp_path: Path, whole: Path, links: int
) -> None:
    settings = ["pretrain", "run.yaml", "--resume", "--set", "checkpoint.every={steps: 7}", "--out"]
    assert run(*settings, "died", cwd=tmp_path, before=partial(crash_after, links)).code == 9
    if links:
        last, best = (checkpoint.read(Path(f"died/checkpoints/{name}.pt")).metadata for name in ("last", "best"))
        assert best.step >= last.progress["best_step"]
        assert json.loads(Path("died/status.json").read_text())["step"] == last.step
    resumed = ptft(*settings, "died")
    assert resumed.code == 0, resumed.err
    assert differing(whole, resumed.path) == []


def test_the_comparison_sees_a_different_augmentation(ptft: Ptft, rich_config: Path, whole: Path) -> None:
    other = ptft("pretrain", rich_config, "--out", "other", "--set", "augment.hue=0.11").path
    assert differing(whole, other)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_the_state_and_exits_with_128_and_its_number(
    rich_config: Path, tmp_path: Path, signum: int
) -> None:
    process = start_run("stopped", tmp_path)
    kill_after(process, tmp_path / "stopped", 4, signum)
    process.send(signum)  # a second one changes nothing
    result = process.wait()
    assert result.code == 128 + signum
    assert result.out == ""
    name = signal.Signals(signum).name
    assert result.err.splitlines()[-1] == (
        f"ptft: stopped by {name}; the same command with --resume goes on with the run in stopped."
    )
    status = json.loads((tmp_path / "stopped" / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("stopped", 128 + signum)
    assert start_run("stopped", tmp_path).wait().out == "stopped/checkpoints/best.pt\n"


IMPORTING = """
import os, signal, sys
from importlib.abc import MetaPathFinder
class Signal(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signum)
module, signum = sys.argv.pop(1), int(sys.argv.pop(1))
sys.meta_path.insert(0, Signal())
from ptft.entry import main
main()
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("module", ["typer", "pydantic", "torch", "ptft.run.training"])
def test_a_signal_while_modules_are_imported_ends_at_once_with_one_line(
    rich_config: Path, tmp_path: Path, module: str, signum: int
) -> None:
    command = [sys.executable, "-c", IMPORTING, module, str(signum), "pretrain", str(rich_config)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stdout) == (128 + signum, "")
    assert done.stderr == f"ptft: stopped by {signal.Signals(signum).name}.\n"


def signal_oneself(wanted: str) -> None:
    """SIGTERM at the first moment of this part of the run; twice where it has many."""
    from torch import nn

    from ptft.models.classifier import Classifier

    def send(module: nn.Module, arguments: Any) -> None:
        if isinstance(module, Classifier) and module.training == (wanted == "training"):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    sent: list[None] = []

    def look(event: str, arguments: Any) -> None:
        is_saving = event == "os.rename" and str(arguments[1]).endswith(".pt")
        is_reading = event == "open" and str(arguments[0]).endswith(".jpg")
        if not sent and {"saving": is_saving, "reading": is_reading}[wanted]:
            sent.append(os.kill(os.getpid(), signal.SIGTERM))

    if wanted in ("saving", "reading"):
        sys.addaudithook(look)
    else:
        nn.modules.module.register_module_forward_pre_hook(send)


@pytest.mark.parametrize("wanted", ["reading", "training", "evaluation", "saving"])
def test_a_signal_in_any_part_of_a_run_saves_what_is_done(
    ptft: Ptft, rich_config: Path, tmp_path: Path, whole: Path, wanted: str
) -> None:
    """Every session is stopped at its first such moment; together they still end as one that was not."""
    command = ("pretrain", rich_config, "--out", "cut", "--resume", "--no-cache")
    for _ in range(2):
        done = run(*command, cwd=tmp_path, before=partial(signal_oneself, wanted))
        assert done.code == 128 + signal.SIGTERM, done.err
        assert done.err.splitlines()[-1].endswith("the same command with --resume goes on with the run in cut.")
        assert "Traceback" not in done.err
    result = ptft("pretrain", rich_config, "--out", "cut", "--resume")
    assert ("resumed" in result.err) == (wanted != "reading")
    assert differing(whole, result.path) == []


def test_a_run_that_resizes_flips_by_turns_and_moves_by_muon_goes_on_with_the_same_bits(
    ptft: Ptft, photos: Path, tmp_path: Path
) -> None:
    """From the middle of a size; with the images in full size throughout, or flipped at random, it is another run."""
    make_images(tmp_path / "large", COLOURS, 10, size=16)
    config = write_config(
        tmp_path / "run.yaml",
        data={"root": "large"},
        augment={"name": "standard", "flip": "alternating"},
        optim={"name": "muon", "normalize": True},
        train={"steps": 24, "resize": {"initial_scale": 0.5}, "evaluate_every": {"steps": 24}},
        checkpoint={"every": {"steps": 5}, "keep": 5},
    )
    first = ptft("pretrain", config, "--out", "whole")
    assert "train.resize: images of 8, 12 pixels up to step 18, then 16." in first.err
    folder = Path(shutil.copytree("whole", "cut"))
    (folder / "status.json").unlink()
    for path in (folder / "checkpoints").glob("*.pt"):
        if path.stem.removeprefix("step-").lstrip("0") != "10":
            path.unlink()
    resumed = ptft("pretrain", config, "--out", "cut", "--resume")
    assert "resumed at step 10 of 24" in resumed.err
    assert differing(first.path, resumed.path) == []
    for setting in ("train.resize.initial_scale=1.0", "augment.flip=true", "optim.normalize=false"):
        assert differing(first.path, ptft("pretrain", config, "--out", setting, "--set", setting).path)


def test_resume_before_anything_was_saved_starts_at_step_0(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--resume")
    assert result.code == 0
    assert "resumed" not in result.err


def interrupted(ptft: Ptft, config: Path) -> Path:
    """A run that stopped for want of time, with several checkpoints; its folder."""
    assert ptft("pretrain", config, "--set", "checkpoint.keep=3").code == 0
    folder = Path("runs/run")
    (folder / "status.json").unlink()
    (folder / "checkpoints" / "best.pt").unlink()
    return folder


def test_a_damaged_last_checkpoint_is_named_and_the_one_before_is_used(ptft: Ptft, rich_config: Path) -> None:
    folder = interrupted(ptft, rich_config)
    last = folder / "checkpoints" / "last.pt"
    damaged = bytearray(last.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 512] = bytes(512)
    last.write_bytes(damaged)  # the same inode as the newest numbered one
    result = ptft("pretrain", rich_config, "--resume", "--set", "checkpoint.keep=3")
    assert result.code == 0, result.err
    assert "last.pt is damaged" in result.err
    assert f"resumed at step {STEPS - 3} of {STEPS}" in result.err


def test_with_no_intact_checkpoint_resume_exits_4(ptft: Ptft, rich_config: Path) -> None:
    folder = interrupted(ptft, rich_config)
    for path in (folder / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-100])
    result = ptft("pretrain", rich_config, "--resume", "--set", "checkpoint.keep=3")
    assert result.code == 4
    assert "no intact checkpoint" in result.err


def test_changed_data_is_refused_on_resume(ptft: Ptft, rich_config: Path, photos: Path) -> None:
    interrupted(ptft, rich_config)
    for path in (photos / "red").glob("*"):
        if path.name < "010":
            path.replace(photos / "blue" / f"red-{path.name}")
    result = ptft("pretrain", rich_config, "--resume", "--set", "checkpoint.keep=3")
    assert result.code == 3
    assert "changed since this run began" in result.err


def test_max_minutes_ends_a_run_early_and_says_so(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--json", "--set", "train.max_minutes=0.0001", "--set", "train.steps=1000")
    assert result.json["reason"] == "max_minutes reached"
    assert result.json["steps"] < 1000
    enough = ("--set", "train.max_minutes=0.2", "--set", "train.steps=100")
    assert ptft("pretrain", config, "--json", "--out", "whole", *enough).json["steps"] == 100


def test_early_stopping_ends_a_run_that_no_longer_improves(ptft: Ptft, config: Path) -> None:
    settings = ["train.steps=400", "train.patience=3", "train.evaluate_every={steps: 5}", "optim.lr=0.2"]
    result = ptft("pretrain", config, "--json", *(part for text in settings for part in ("--set", text)))
    assert result.json["reason"] == "early stopping"
    assert result.json["steps"] < 400
    assert json.loads(Path("runs/run/status.json").read_text())["reason"] == "early stopping"
    lines = [json.loads(line) for line in Path("runs/run/metrics.jsonl").read_text().splitlines()]
    looks = [line for line in lines if "validation_loss" in line]
    assert [look["step"] for look in looks] == list(range(5, result.json["steps"] + 1, 5))
    best = max(looks, key=lambda look: (look["validation_top1"], -look["validation_loss"]))
    found = checkpoint.read(Path(result.json["checkpoint"]))
    assert found.metadata.step == best["step"] < result.json["steps"]
    assert found.metadata.lineage[-1].top1 == best["validation_top1"]
    for path in sorted(found.path.parent.glob("step-*.pt"))[-1:]:
        own = checkpoint.read(path).metadata.lineage[-1]
        assert (own.steps, own.top1) == (result.json["steps"], None)


def test_as_many_checkpoints_as_asked_for_are_kept_each_with_its_own_step(ptft: Ptft, config: Path) -> None:
    settings = ("--set", "checkpoint.every={steps: 3}", "--set", "checkpoint.keep=2", "--set", "train.steps=11")
    folder = ptft("pretrain", config, *settings).path.parent
    kept = [checkpoint.read(path).metadata for path in sorted(folder.glob("step-*.pt"))]
    assert [found.step for found in kept] == [found.lineage[-1].steps for found in kept] == [9, 11]


def test_a_finished_run_is_not_that_of_other_images(ptft: Ptft, config: Path, photos: Path, tmp_path: Path) -> None:
    done = ptft("pretrain", config, "--out", "a").path
    again = ("pretrain", config, "--out", "a", "--resume", "--set")
    shutil.copytree(photos, tmp_path / "moved")
    assert ptft(*again, "data.root=moved").path == done
    make_images(tmp_path / "others", {"cyan": (60, 190, 200), "violet": (180, 140, 220)}, 6)
    refused = ptft(*again, "data.root=others")
    assert refused.code == 3
    assert "has other images than those that the finished run was trained on" in refused.err
    assert ptft(*again, "data.root=gone").code == 3
    assert ptft(*again[:-1]).path == done


def test_a_finished_run_that_nobody_may_write_to_is_told(
    ptft: Ptft, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = ptft("pretrain", config, "--out", "a").path
    before = sorted(path.stat().st_mtime_ns for path in Path("a").rglob("*"))
    # Root may write everywhere, so that permissions alone would not show it.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert ptft("pretrain", config, "--out", "a", "--resume").path == done
    assert sorted(path.stat().st_mtime_ns for path in Path("a").rglob("*")) == before
