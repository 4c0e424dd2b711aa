"""Fixtures: the command line called as a user calls it, a folder of images, a quick config."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import COLOURS, Ptft, Result, make_images, write_config

_LONG = {"distributed", "scripts", "tracking", "faults", "test_shipped.py", "test_compare.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first: begun last, they would leave the other cores idle at the end."""
    items.sort(key=lambda item: not _LONG & set(item.path.parts))


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder for the whole session and all processes it starts; never the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTFT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("PTFT_CACHE_GB", raising=False)
        yield


@pytest.fixture
def ptft(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ptft:
    """Calls `ptft ARGUMENTS` in this process, in an empty folder."""
    from ptft.cli import main
    from ptft.stop import SIGNALS

    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["ptft", *map(str, arguments)])
        capfd.readouterr()
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:  # a process that ends leaves signals ignored, which those we start later would inherit
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capfd.readouterr()
        code = ended.value.code
        return Result(code if isinstance(code, int) else 0, out, err)

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
