"""A real MLflow server on loopback with its own SQLite database, and what it knows of a run."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptft.tracking.base import numbers_of

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@dataclass
class Server:
    """`mlflow server` over a database in `folder`; it can be killed and started again.

    Attributes:
        folder: for the database and the log.
        port: of 127.0.0.1.
    """

    folder: Path
    port: int = field(default_factory=lambda: _free_port())
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it answers."""
        database = f"sqlite:///{self.folder / 'mlflow.db'}"
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", "--backend-store-uri", database]
        log = (self.folder / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options, "--default-artifact-root", str(self.folder)],
                env=os.environ | QUIET,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            # Not urlopen: it keeps the proxies that an earlier test of this process had set.
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """Ends it and all its workers at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def points_of(lines: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """Every number of metrics.jsonl as (name, step, value), sorted."""
    return sorted((key, line["step"], float(value)) for line in lines for key, value in numbers_of(line).items())
