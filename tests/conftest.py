"""Fixtures: the command line called as a user calls it, a folder of images, a quick config."""

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import COLOURS, Ptft, Result, make_images, write_config
from making import call as call_ptft

_LONG = {"distributed", "scripts", "tracking", "faults", "transfer", "test_shipped.py", "test_compare.py"}
_LONG |= {"test_resume.py", "test_commands.py", "test_finetune.py", "test_drift.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first: begun last, they would leave the other cores idle at the end."""
    items.sort(key=lambda item: not _LONG & set(item.path.parts))


def pytest_collection_finish() -> None:
    """What is imported stays: no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder for the whole session and all processes it starts; never the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTFT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("PTFT_CACHE_GB", raising=False)
        yield


@pytest.fixture
def ptft(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ptft:
    """Calls `ptft ARGUMENTS` in this process, in an empty folder.

    A run's page, which takes longer than most of these runs, is made where it is asked for.
    """
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path, page: bool = False) -> Result:
        capfd.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            if not page:
                patch.setattr("ptft.run.conclusion._write_page", lambda *_: None)
            code = call_ptft(*arguments)
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return call


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PTFT_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of 20 images of 12x12 pixels, told apart by colour."""
    return make_images(tmp_path / "photos", COLOURS, 20)


@pytest.fixture
def config(tmp_path: Path, photos: Path) -> Path:
    """`write_config` as it is, over `photos`."""
    return write_config(tmp_path / "run.yaml")


@pytest.fixture(scope="session")
def _source_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of `config`, trained once for all tests."""
    folder = tmp_path_factory.mktemp("source")
    make_images(folder / "photos", COLOURS, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("ptft.run.conclusion._write_page", lambda *_: None)
        assert call_ptft("pretrain", write_config(folder / "run.yaml"), "--out", "source") == 0
    return folder / "source"


@pytest.fixture
def source(_source_run: Path, config: Path) -> Path:
    """A checkpoint of blue, green and red: the end of `config`, in a run folder of this test's own."""
    shutil.copytree(_source_run, config.parent / "source")
    return Path("source/checkpoints/best.pt")
