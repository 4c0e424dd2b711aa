"""Fixtures of the scripts' tests."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.scene import QUICK, Scene, environment, make_scene


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a process that has imported ptft."""
    path = tmp_path_factory.mktemp("quick") / "socket"
    process = subprocess.Popen([sys.executable, str(QUICK), "serve", str(path)], env=environment())
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield path
    process.kill()
    process.wait()


@pytest.fixture
def scene(tmp_path: Path, server: Path) -> Scene:
    return make_scene(tmp_path, server)
