"""Paths as users type them: `~` everywhere, folders with a dot in their name, configs from a pipe."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from making import COLOURS, Ptft, make_images

from ptft import checkpoint


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home folder."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_a_tilde_is_the_home_folder_wherever_a_path_is_given(
    ptft: Ptft, config: Path, source: Path, photos: Path, home: Path
) -> None:
    shutil.copytree(photos, home / "photos")
    shutil.copy(source, home / "source.pt")
    assert ptft("pretrain", config, "--set", "out=~/set").path.is_relative_to(home / "set")
    assert ptft("pretrain", config, "--out", "~/out", "--cache-dir", "~/cache").path.is_relative_to(home / "out")
    assert list((home / "cache").iterdir())
    quickly = ("--set", "transfer.recipe=probe", "--set", "data.leak_check=false")
    tuned = ptft("finetune", "--from", "~/source.pt", "--data", "~/photos", *quickly).path
    assert checkpoint.read(tuned).metadata.config["transfer"]["from"] == str(home / "source.pt")
    assert ptft("inspect", "~/source.pt").code == 0
    assert ptft("leak", "~/source.pt", "--data", "~/photos", "--pictures", "~/pairs.png").code == 0
    assert (home / "pairs.png").exists()
    own = ptft("evaluate", "~/source.pt", "--data", "~/photos")
    assert "Leave --data out" not in own.err
    assert "Leave --data out" in ptft("evaluate", tuned, "--data", "~/photos").err
    assert not Path("~").exists()


def test_the_cache_of_the_environment_may_be_below_home(
    ptft: Ptft, config: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTFT_CACHE_DIR", "~/kept")
    assert ptft("check", config).code == 0
    assert list((home / "kept").iterdir())


def test_folders_that_differ_after_a_dot_have_runs_of_their_own(ptft: Ptft, source: Path, tmp_path: Path) -> None:
    quickly = ("--set", "transfer.recipe=probe", "--set", "data.leak_check=false")
    for name in ("photos.v1", "photos.v2", "photos.csv"):
        make_images(tmp_path / name, COLOURS, 6)
        assert ptft("finetune", "--from", source, "--data", name, *quickly).path.is_relative_to(f"runs/{name}")


def test_a_config_may_come_from_a_pipe() -> None:
    command = f"{sys.executable} -m ptft pretrain <(echo 'data: {{name: fashion-mnist-10k, rot: a}}')"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 2
    assert ": data.rot: unknown key." in done.stderr
    assert "1 fault in /dev/fd/" in done.stderr
    command = f"{sys.executable} -m ptft pretrain <(echo 'data: {{name: fashion-mnist-10k}}')"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 2
    assert "gives the run no name. Give its folder with --out." in done.stderr


def test_a_cache_among_the_images_would_be_a_class(ptft: Ptft, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ptft("pretrain", config, "--cache-dir", "photos/cache")
    assert refused.code == 2
    assert "the cache photos/cache would lie among the images" in refused.err
    assert ptft("check", config, "--cache-dir", "photos/cache").code == 2
    for command in ("score", "evaluate", "leak"):
        assert ptft(command, "any.pt", "--data", "photos", "--cache-dir", "photos/cache").code == 2
    monkeypatch.setenv("PTFT_CACHE_DIR", "photos/cache")
    assert ptft("pretrain", config).code == 2
    assert not Path("photos/cache").exists()


@pytest.mark.parametrize("flag", ["--out", "--cache-dir", "--set"])
def test_links_that_lead_in_a_circle_are_told_in_a_sentence(
    ptft: Ptft, config: Path, tmp_path: Path, flag: str
) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    result = ptft("pretrain", config, flag, "data.root=a" if flag == "--set" else "a/x")
    assert result.code in (0, 2, 3, 5), result.err  # without a cache a run goes on
    assert "Traceback" not in result.err


@pytest.mark.parametrize("command", [["inspect"], ["report"], ["evaluate", "--data"], ["leak", "--data"]])
def test_a_path_that_is_too_long_to_be_looked_at_is_told_in_a_sentence(
    ptft: Ptft, source: Path, command: list[str]
) -> None:
    given = [command[0], source, *command[1:]] if len(command) > 1 else command
    result = ptft(*given, "x" * 300)
    assert result.code in (2, 3, 4, 5), result.err
    assert result.err.startswith("ptft: ")
    assert "Traceback" not in result.err


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    for arguments, code in (("list models", 0), ("pretrain no.yaml", 2)):
        command = f"exec {sys.executable} -m ptft {arguments} {closed}"
        done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, text=True)
        assert done.returncode == code
        assert ("small-cnn" in done.stdout) == (code == 0 and closed == "2>&-")
        assert "Traceback" not in done.stdout


def test_closed_streams_are_open_for_processes_that_are_started_too() -> None:
    script = (
        "from ptft.entry import _open_standard_streams as f; f(); import os; os.execvp('ls', ['ls', '/proc/self/fd/2'])"
    )
    done = subprocess.run(["bash", "-c", f'exec {sys.executable} -c "{script}" 2>&-'], capture_output=True, text=True)
    assert done.stdout == "/proc/self/fd/2\n"


def test_an_error_that_nobody_can_be_told_keeps_its_exit_code() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "ptft", "pretrain", "no.yaml"], stderr=full)
    assert done.returncode == 2


def test_a_reader_that_goes_away_ends_a_command_as_it_does_other_filters() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "ptft", "list", "models"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (-13, b"")
