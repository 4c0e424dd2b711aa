"""The run folder: who holds it, how far the run is, and its checkpoints."""

import fcntl
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from ptft.errors import BusyError, CheckpointError, StorageError, UsageError
from ptft.storage import is_unfinished, storage_errors, sync_folder, write_text_durably
from ptft.transfer.origin import Origin, is_name

RunStatus = Literal["running", "done", "stopped", "failed"]

_BEFORE_A_RUN = {".lock", "checkpoints", "log.txt", "status.json", "mlflow.json", "wandb.json"}
_SECONDS_TO_SIGN = 1.0
_IDENTITY = ("command", "source", "world_size", "job")


class RunFolder:
    """Files of one run.

    Args:
        path: the folder; created by `hold`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: dict[str, Any] = {}
        self.config = path / "config.yaml"
        self.status = path / "status.json"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self.report = path / "report.html"
        self.log = path / "log.txt"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.pt"
        self.best = self.checkpoints / "best.pt"

    @contextmanager
    def hold(self, *, resume: bool) -> Iterator[None]:
        """Creates the folder and holds its lock; the kernel frees it when the process ends, however it ends.

        Args:
            resume: go on with the run in it, if there is one.

        Raises:
            UsageError: a run is in it, or other files are, and `resume` is false.
            BusyError: another process holds it.
            StorageError: it cannot be created.
        """
        self._check_ours()
        if resume and self._is_archived():
            yield
            return
        with storage_errors(self.path, "create"):
            self.path.mkdir(parents=True, exist_ok=True)
            sync_folder(self.path.parent)
            lock = (self.path / ".lock").open("a+")
        with lock:
            self._lock(lock)
            if self.is_started() and not resume:
                raise UsageError(
                    f"{self.path} already holds a run. Go on with it by --resume, or choose another folder with --out."
                )
            self._sweep()
            yield

    def _is_archived(self) -> bool:
        """Whether a finished run is in a folder that nobody can write into: there is nothing to hold."""
        return self.read_status().get("state") == "done" and not os.access(self.path, os.W_OK)

    def _check_ours(self) -> None:
        """Refuses a file, or a folder of other files, before anything is written into it."""
        with storage_errors(self.path, "read"):
            refuse_file(self.path)
            # Listed before it is asked whether a run has begun: one that begins meanwhile is no stranger.
            found = list(self.path.iterdir()) if self.path.exists() else []
            others = {path.name for path in found if not is_unfinished(path)} - _BEFORE_A_RUN
            if others and not self.is_started():
                raise UsageError(f"{self.path} holds other files and no run. Choose another folder with --out.")

    def _lock(self, lock: TextIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"{self.path} is in use by {_holder(lock)}. Wait for it, or choose another --out."
            ) from None
        except OSError as error:
            raise StorageError(f"cannot lock {self.path}: {error.strerror}. Choose another --out.") from error
        with storage_errors(self.path / ".lock", "write"):
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def _sweep(self) -> None:
        """Removes what a killed process was writing."""
        with storage_errors(self.path, "tidy"):
            for folder in filter(Path.is_dir, (self.path, self.checkpoints)):
                for path in filter(is_unfinished, list(folder.iterdir())):
                    path.unlink()

    def identify(self, command: str, *sources: Origin) -> None:
        """Makes the folder one of this command and source checkpoint, or checks that it is.

        Args:
            command: `pretrain`, `finetune` or `compare`.
            sources: what a finetuning starts from, a file or a name such as `torchvision:WEIGHTS`; several for some
                comparisons. Where a file is gone by now they are not compared.

        Raises:
            UsageError: the run in it is of another command or starts from another checkpoint.
        """
        before = self.read_status() if self.is_started() else {}
        digests = [_identity(source) for source in sources]
        digest = None if None in digests else " ".join(filter(None, digests)) or None
        if before.get("command", command) != command:
            raise UsageError(f"{self.path} holds a {before['command']} run. Choose another folder with --out.")
        if before.get("source") and digest not in (None, before["source"]):
            raise UsageError(
                f"{self.path} holds a finetuning from another checkpoint than {' '.join(map(str, sources))}. "
                "Choose another folder with --out."
            )
        self._identity = {"command": command, "source": digest or before.get("source")}

    def sign(self, world_size: int, job: str | None) -> None:
        """Notes in status.json, from now on, how many ranks the run has and, where it has one, torchrun's job id."""
        self._identity |= {"world_size": world_size} | ({"job": job} if job else {})

    def read_status(self) -> dict[str, Any]:
        """What status.json says; empty where there is none."""
        try:
            status = json.loads(self.status.read_text())
        except (OSError, ValueError):
            return {}
        return status if isinstance(status, dict) else {}

    def is_started(self) -> bool:
        """Whether a run has begun here."""
        return self.config.exists()

    def finished(self) -> dict[str, Any] | None:
        """The summary of a finished run; None when the run has not finished.

        Raises:
            CheckpointError: the final checkpoint was removed since.
        """
        summary = self.read_summary()
        if summary is None:
            return None
        final = self.checkpoints / Path(summary["checkpoint"]).name
        if not final.is_file():
            raise CheckpointError(f"{self.path} holds a finished run, but {final} is gone.")
        return summary | {"checkpoint": str(final)}

    def read_summary(self) -> dict[str, Any] | None:
        """The summary of a finished run, whether its final checkpoint is still there or not; None when not finished."""
        try:
            if self.read_status().get("state") != "done":
                return None
            summary: dict[str, Any] = json.loads(self.summary.read_text())
        except (OSError, ValueError):
            return None
        return summary

    def write_status(self, state: RunStatus, step: int, num_steps: int, **more: Any) -> None:
        """Replaces status.json.

        Args:
            state: `running`, `done`, `stopped` or `failed`.
            step: optimizer steps completed and saved or trained.
            num_steps: of the whole run; 0 before that is known.
            more: `exit_code` and `reason` when the run has ended.
        """
        status = {**self._identity, "state": state, "step": step, "num_steps": num_steps, **more}
        status |= {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        write_text_durably(self.status, json.dumps(status) + "\n")

    def write_begin(self) -> None:
        """Says in status.json that the run is going on, at the step it was left at; a run that is done stays done."""
        before = self.read_status()
        if before.get("state") != "done":
            self.write_status("running", before.get("step", 0), before.get("num_steps", 0))

    def write_end(self, state: RunStatus, exit_code: int, reason: str) -> None:
        """Adds to status.json how a run ended early; a finished run that was refused to go on stays finished."""
        before = self.read_status()
        if before.get("state") == "done":
            return
        self._identity = self._identity or {key: before[key] for key in _IDENTITY if key in before}
        self.write_status(state, before.get("step", 0), before.get("num_steps", 0), exit_code=exit_code, reason=reason)

    def note_of(self, tracker: str) -> Path:
        """What a tracker keeps for the next session."""
        return self.path / f"{tracker}.json"

    def saved_paths(self) -> list[Path]:
        """Checkpoints to resume from, newest first."""
        steps = sorted(self.checkpoints.glob("step-*.pt"), reverse=True)
        return [path for path in (self.last, *steps) if path.exists()]


def refuse_file(path: Path) -> None:
    """Checks that a folder of ours may be, or is, there.

    Raises:
        UsageError: it is a file.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file, not a folder. Choose another --out.")


def _holder(lock: TextIO) -> str:
    """Who signed the lock file; a holder that is just about to sign, over one that was killed, gets a moment."""
    deadline = time.monotonic() + _SECONDS_TO_SIGN
    while True:
        lock.seek(0)
        signed = re.fullmatch(r"process (\d+) on (.+)\n", lock.read())
        if signed and _may_live(int(signed[1]), host=signed[2]):
            return signed[0].strip()
        if time.monotonic() > deadline:
            return "another process"
        time.sleep(0.02)


def _may_live(pid: int, host: str) -> bool:
    """Whether a process may be alive; one on another host, as far as can be told from here, is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return host != socket.gethostname()
    except PermissionError:  # it is another user's
        return True
    return True


def _identity(source: Origin) -> str | None:
    """SHA-256 of a file's bytes, a name as it is; None where there is no file to read."""
    if is_name(source):
        return str(source)
    try:
        with Path(source).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
