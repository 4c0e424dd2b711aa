"""No checkpoint runs code or asks for memory beyond its size, whichever command it is given to."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from faults.hostile import bombs, payload_files, payloads, tell, whole, zipped
from faults.program import run
from making import COLOURS, Ptft, Result, make_images, write_config

from ptft import checkpoint
from ptft.errors import CheckpointError

PAYLOADS = list(payload_files(Path("x")))
BOMBS = list(bombs())


def test_every_payload_works_on_a_reader_that_trusts(tmp_path: Path) -> None:
    """The negative control: these are no duds."""
    kinds = payloads(tmp_path)
    for number, kind in enumerate(kinds):
        protocol = 2 if kind.startswith("python 2") else 4
        (tmp_path / f"{number}.pkl").write_bytes(whole(payloads(tmp_path / f"{number}")[kind], protocol))
    program = """
import contextlib, pathlib, pickle, sys, warnings
warnings.simplefilter("ignore")
for path in pathlib.Path(sys.argv[1]).glob("*.pkl"):
    with contextlib.suppress(Exception):
        found = pickle.loads(path.read_bytes())
        getattr(found, "wait", getattr(found, "close", int))()
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, capture_output=True)
    assert [kind for number, kind in enumerate(kinds) if not (tmp_path / f"{number}").exists()] == []


@pytest.mark.parametrize("force", ["0", "1"])
def test_no_payload_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: str) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", force)
    target, passed = tmp_path / "executed", 0
    for number, (kind, content) in enumerate(payload_files(target).items()):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content)
        for read in (checkpoint.read, checkpoint.read_weights):
            with pytest.raises(CheckpointError) as caught:
                read(path)
            assert "\n" not in str(caught.value), kind
            assert str(path) in str(caught.value), kind
        assert not target.exists(), kind
        passed += 1
    tell(f"payloads refused, force={force}", passed, len(PAYLOADS))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("entry named twice", "two parts of it have the same name"),
        ("second pickle", "something follows the end of its content"),
    ],
)
def test_what_two_readers_could_take_for_two_things_is_refused_as_that(tmp_path: Path, kind: str, words: str) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(payload_files(tmp_path / "executed")[kind])
    with pytest.raises(CheckpointError, match=words):
        checkpoint.read_weights(path)


def test_the_variable_of_torch_does_not_win_over_the_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch itself does with the variable: without the argument the payload runs, with it not."""
    target = tmp_path / "executed"
    (tmp_path / "a.pt").write_bytes(payload_files(target)["protocol 2, GLOBAL REDUCE"])
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pt", weights_only=True)
    assert not target.exists()
    with pytest.warns(UserWarning, match="forcing weights_only=False"):
        torch.load(tmp_path / "a.pt")
    assert target.exists()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, a config, and a run of it that was stopped."""
    folder = tmp_path_factory.mktemp("started")
    make_images(folder / "photos", COLOURS, 8)
    write_config(folder / "run.yaml", train={"steps": 2})
    assert run("pretrain", "run.yaml", "--out", "run", cwd=folder).code == 0
    _stop(folder / "run")
    return folder


def _stop(folder: Path) -> None:
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"state": "stopped"}))


FEW_STEPS = ("--set", "train.steps=2")  # where a file is harmless
COMMANDS = {
    "inspect": ("inspect", "bad.pt"),
    "inspect --verify": ("inspect", "--verify", "--json", "bad.pt"),
    "evaluate": ("evaluate", "bad.pt", "--data", "photos"),
    "predict": ("predict", "bad.pt", "photos"),
    "finetune": ("finetune", "--from", "bad.pt", "--data", "photos", "--out", "new", *FEW_STEPS),
    "check": ("check", "run.yaml", "--from", "bad.pt"),
    "score": ("score", "bad.pt", "--data", "photos"),
    "leak": ("leak", "bad.pt", "--data", "photos"),
    "compare": ("compare", "--from", "bad.pt", "--data", "photos", "--out", "new", *FEW_STEPS),
    "--resume": ("pretrain", "run.yaml", "--out", "run", "--resume"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_executes_a_payload(
    ptft: Ptft, tmp_path: Path, started: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    shutil.copytree(started, tmp_path, dirs_exist_ok=True)
    target, passed = tmp_path / "executed", 0
    for kind, content in payload_files(target).items():
        for name in ("bad.pt", *(f"run/checkpoints/{path.name}" for path in (tmp_path / "run/checkpoints").iterdir())):
            if name == "bad.pt" or command == "--resume":
                (tmp_path / name).unlink(missing_ok=True)
                (tmp_path / name).write_bytes(content)
        result = ptft(*COMMANDS[command])
        assert (result.code, result.out) in ((4, ""), (4, "path,label,probability\n")), (kind, result.err)
        assert "Traceback" not in result.err, kind
        assert not target.exists(), kind
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        passed += 1
    tell(f"payloads refused by {command}", passed, len(PAYLOADS))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_no_small_file_takes_much_memory_or_time(tmp_path: Path) -> None:
    """In a process of its own: 200 MB more than before is the bound."""
    for number, content in enumerate(bombs().values()):
        (tmp_path / f"{number}.pt").write_bytes(content)
    program = f"""
import json, re, time
from pathlib import Path
from ptft import checkpoint
from ptft.errors import CheckpointError
# Not ru_maxrss, which a new program inherits from the process that started it.
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10
before, rows = peak(), []
for number in range({len(BOMBS)}):
    began = time.perf_counter()
    try:
        outcome = f"read {{len(checkpoint.read_weights(Path({str(tmp_path)!r}) / f'{{number}}.pt'))}}"
    except CheckpointError as error:
        outcome = str(error)
    rows.append((outcome, time.perf_counter() - began, peak() - before))
print(json.dumps(rows))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    rows = dict(zip(BOMBS, json.loads(done.stdout), strict=True))
    harmless = "one number under 5,000 names, which is small"
    assert rows.pop(harmless)[0] == "read 5000"
    for kind, (outcome, _, grown) in rows.items():
        assert ".pt " in outcome, (kind, outcome)
        assert grown < 200, (kind, grown)
    worst = f"at most {max(row[2] for row in rows.values())} MB more, {max(row[1] for row in rows.values()):.1f} s"
    tell("memory bombs refused", len(rows), len(rows), worst)


def test_torch_alone_believes_such_a_file(tmp_path: Path) -> None:
    """The negative control: weights_only=True gives the tensor of ten trillion numbers, and tries the bytearray."""
    path = tmp_path / "a.pt"
    path.write_bytes(bombs()["expanded"])
    assert torch.load(path, weights_only=True).numel() == 10**13
    path.write_bytes(zipped(whole(b"cbuiltins\nbytearray\nJ\x00\x00\x00\x01\x85R")))
    assert len(torch.load(path, weights_only=True)) == 1 << 24
    with pytest.raises(CheckpointError, match=r"holds a Python object \(builtins\.bytearray\)"):
        checkpoint.read_weights(path)


def test_a_valid_digest_does_not_buy_a_model_of_any_size(ptft: Ptft, started: Path, tmp_path: Path) -> None:
    shutil.copytree(started, tmp_path, dirs_exist_ok=True)
    found = checkpoint.read(tmp_path / "run/checkpoints/last.pt")
    config = found.metadata.config | {"model": {"name": "small-resnet", "width": 512}}
    checkpoint.write(tmp_path / "bad.pt", found.metadata.model_copy(update={"config": config}), found.tensors)
    for command in ("inspect --verify", "evaluate", "predict", "finetune"):
        result = ptft(*COMMANDS[command])
        assert result.code == 4, result.err
        assert "not those of its model" in result.err


@pytest.mark.parametrize("key", ["config", "environment", "progress"])
def test_metadata_without_its_content_is_a_sentence(ptft: Ptft, started: Path, tmp_path: Path, key: str) -> None:
    shutil.copytree(started, tmp_path, dirs_exist_ok=True)
    found = checkpoint.read(tmp_path / "run/checkpoints/last.pt")
    checkpoint.write(tmp_path / "bad.pt", found.metadata.model_copy(update={key: {}}), found.tensors)
    for arguments in (*COMMANDS.values(), ("evaluate", "bad.pt")):
        if "run" not in arguments:
            assert ptft(*arguments).code in (0, 2, 4)


def test_names_in_a_checkpoint_cannot_steer_the_terminal(ptft: Ptft, started: Path, tmp_path: Path) -> None:
    shutil.copytree(started, tmp_path, dirs_exist_ok=True)
    found = checkpoint.read(tmp_path / "run/checkpoints/last.pt")
    classes = ("\x1b]0;owned\x07", "b\nc", "d\x1b[2J")
    checkpoint.write(tmp_path / "bad.pt", found.metadata.model_copy(update={"classes": classes}), found.tensors)
    for command in ("inspect", "evaluate", "predict"):
        result = ptft(*COMMANDS[command])
        assert "\x1b" not in result.out + result.err


class TestSwapped:
    """A checkpoint that is intact, but another run's."""

    def resume(self, ptft: Ptft, folder: Path, **sections: object) -> Result:
        """Another run with one thing different; its checkpoint in place of last.pt; then --resume."""
        write_config(folder / "other.yaml", **({"train": {"steps": 2}} | sections))
        other = ptft("pretrain", "other.yaml", "--out", "other").path
        (folder / "run/checkpoints/last.pt").unlink()
        shutil.copy(other, folder / "run/checkpoints/last.pt")
        return ptft("pretrain", "run.yaml", "--out", "run", "--resume")

    @pytest.mark.parametrize("sections", [{"seed": 1}, {"model": {"width": 5}}, {"optim": {"lr": 0.01}}])
    def test_is_noticed_and_the_one_before_is_used(
        self, ptft: Ptft, started: Path, tmp_path: Path, sections: dict[str, object]
    ) -> None:
        shutil.copytree(started, tmp_path, dirs_exist_ok=True)
        result = self.resume(ptft, tmp_path, **sections)
        assert result.code == 0, result.err
        assert "last.pt is a checkpoint of another run" in result.err
        assert "resumed at step 2 of 2 from run/checkpoints/step-000000002.pt" in result.err

    def test_of_the_same_run_is_taken(self, ptft: Ptft, started: Path, tmp_path: Path) -> None:
        shutil.copytree(started, tmp_path, dirs_exist_ok=True)
        result = self.resume(ptft, tmp_path)
        assert result.code == 0, result.err
        assert "another run" not in result.err

    def test_from_another_parent_is_noticed(self, ptft: Ptft, started: Path, tmp_path: Path) -> None:
        shutil.copytree(started, tmp_path, dirs_exist_ok=True)
        write_config(tmp_path / "other.yaml", seed=1, train={"steps": 2})
        other = ptft("pretrain", "other.yaml", "--out", "other").path
        train = "train={steps: 2, batch_size: 8, precision: fp32, memory_format: contiguous}"
        quickly = ("--data", "photos", "--set", train, "--set", "transfer.recipe=full")  # nothing left to measure
        command = ("finetune", "--from", "run/checkpoints/step-000000002.pt", *quickly, "--out", "tuned")
        assert ptft(*command).code == 0
        stranger = ptft("finetune", "--from", other, *quickly, "--out", "stranger").path
        for path in (tmp_path / "tuned/checkpoints").iterdir():
            path.unlink()
            shutil.copy(stranger, path)
        _stop(tmp_path / "tuned")
        result = ptft(*command, "--resume")
        assert result.code == 4
        assert "it started from another checkpoint" in result.err


def test_verify_says_what_was_checked(ptft: Ptft, started: Path, tmp_path: Path) -> None:
    shutil.copytree(started, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "run/checkpoints/last.pt"
    verified = ptft("inspect", "--verify", path, "--json").json
    assert verified["digest"] == checkpoint.read(path).digest
    assert "digest over metadata and tensors" in verified["checks"]
    torch.save(checkpoint.read(path).weights(), tmp_path / "bare.pt")
    assert "digest   none" in ptft("inspect", "--verify", "bare.pt").out
    found = checkpoint.read(path)
    poisoned = dict(found.tensors) | {"head.bias": found.tensors["head.bias"] * float("nan")}
    checkpoint.write(tmp_path / "nan.pt", found.metadata, poisoned)
    result = ptft("inspect", "--verify", "nan.pt")
    assert (result.code, "head.bias holds NaN" in result.err) == (4, True)


@pytest.mark.parametrize("make", ["fifo", "folder", "device", "missing", "empty", "unreadable"])
def test_what_is_not_a_file_is_refused_without_waiting(ptft: Ptft, tmp_path: Path, make: str) -> None:
    path = {"device": Path("/dev/zero")}.get(make, tmp_path / "a.pt")
    if make == "fifo":
        os.mkfifo(path)
    elif make == "folder":
        path.mkdir()
    elif make in ("empty", "unreadable"):
        path.touch(mode=0o000 if make == "unreadable" else 0o644)
    assert ptft("inspect", path).code == 4
