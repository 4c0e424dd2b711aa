"""Tables of small images, and a run of each task that is made once and copied for every test."""

import shutil
from pathlib import Path

import pytest
from making import call
from making_tasks import MULTI, NUMBERS, Shapes, write


@pytest.fixture
def shapes(tmp_path: Path) -> Shapes:
    return Shapes(tmp_path / "shapes")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables and runs/multi, runs/numbers."""
    folder = tmp_path_factory.mktemp("finished")
    Shapes(folder / "shapes")
    for name, sections in (("multi", MULTI), ("numbers", NUMBERS)):
        config = write(folder / f"{name}.yaml", sections)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert call("pretrain", config.name) == 0
    return folder


@pytest.fixture
def multi(finished: Path, shapes: Shapes, tmp_path: Path) -> Path:
    """The final checkpoint of a multi-label run in this test's folder."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    return Path("runs/multi/checkpoints/best.pt")


@pytest.fixture
def numbers(finished: Path, shapes: Shapes, tmp_path: Path) -> Path:
    """The final checkpoint of a regression in this test's folder."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    return Path("runs/numbers/checkpoints/best.pt")
