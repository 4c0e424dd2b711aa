"""No image file takes down a run, opens another program, or asks for more memory than `data.max_pixels` allows."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults.hostile import READABLE, images, png, tell
from making import COLOURS, Ptft, make_images, run_process, write_config
from PIL import Image

import ptft.data.decode as decoding
from ptft.data.images import load_images
from ptft.data.records import Record
from ptft.data.sources import Folder
from ptft.errors import DataError

BOUND_MB = 300
"""What the images of the test may add to a process that has read honest ones; a gigapixel would add 3,000."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all hostile images, named alike."""
    folder = tmp_path_factory.mktemp("hostile")
    for number, content in enumerate(images().values()):
        (folder / f"{number:02d}.jpg").write_bytes(content)
    return folder


def record(path: Path) -> Record:
    return Record(path, "cat", None, path.name)


def load(paths: list[Path], policy: str, max_pixels: int = 100_000_000) -> tuple[int, list[str]]:
    """How many could be read, and what was said of the others."""
    config = Folder.model_validate({"root": ".", "on_bad_image": policy, "max_pixels": max_pixels})
    loaded = load_images([record(path) for path in paths], config, size=16, channels=3, check_stop=lambda: None)
    return len(loaded.records), list(loaded.bad)


def test_every_hostile_image_is_refused_by_name_or_is_an_image(hostile: Path) -> None:
    kinds, passed = list(images()), 0
    for kind, path in zip(kinds, sorted(hostile.iterdir()), strict=True):
        num_read, bad = load([path], "skip")
        assert num_read == (kind in READABLE), (kind, bad)
        if kind not in READABLE:
            assert bad[0].startswith(f"{path.name}: cannot be read: "), kind
            with pytest.raises(DataError, match=f"{path.name}: cannot be read: .* data.on_bad_image=skip"):
                load([path], "error")
        passed += 1
    tell("hostile images refused or honest", passed, len(kinds))
    assert passed >= 40


def test_every_command_survives_all_of_them(ptft: Ptft, tmp_path: Path, hostile: Path) -> None:
    make_images(tmp_path / "photos", COLOURS, 8)
    write_config(tmp_path / "run.yaml", train={"steps": 2})
    best = ptft("pretrain", "run.yaml", "--out", "clean").path
    shutil.copytree(hostile, tmp_path / "photos/red", dirs_exist_ok=True)
    os.mkfifo(tmp_path / "photos/red/fifo.jpg")
    count, refused = len(images()), len(images()) - len(READABLE)
    result = ptft("pretrain", "run.yaml", "--out", "strict")
    assert (result.code, "data.on_bad_image=skip" in result.err) == (3, True)
    skipping = ("--set", "data.on_bad_image=skip", "--set", "data.image_size=12")
    result = ptft("pretrain", "run.yaml", "--out", "skipping", *skipping, "--json")
    assert result.code == 0, result.err
    assert len(result.json["bad_images"]) == refused
    assert ptft("check", "run.yaml", *skipping).code == 0
    assert ptft("finetune", "--from", best, "run.yaml", *skipping, "--out", "tuned").code == 0
    assert len(ptft("evaluate", best, "--data", "photos", "--json").json["bad_images"]) == refused
    result = ptft("predict", best, *sorted(hostile.iterdir()))
    assert (result.code, result.out.count("\n")) == (3, 1 + len(READABLE)), result.err
    rows = "".join(f"photos/red/{path.name},{'red'}\n" for path in sorted(hostile.iterdir()))
    (tmp_path / "table.csv").write_text("path,label\nphotos/blue/000.jpg,blue\n" + rows)
    table = ("--set", "data={name: csv, path: table.csv, on_bad_image: skip, image_size: 12, validation: 0, test: 0}")
    result = ptft("pretrain", "run.yaml", "--out", "table", *table, "--json")
    assert result.code == 0, result.err
    tell("hostile images through pretrain, check, finetune, evaluate, predict, csv", count, count)


MEASURE = """
import re, sys
from pathlib import Path
from ptft.data.decode import BadImageError, decode
# Not ru_maxrss, which a new program inherits from the process that started it.
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10
honest, folder, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
decode(honest, size=16, channels=3, max_pixels=limit)
before = peak()
for path in sorted(folder.iterdir()):
    try: decode(path, size=16, channels=3, max_pixels=limit)
    except BadImageError: pass
print(peak() - before)
"""


def measure(tmp_path: Path, folder: Path, max_pixels: int) -> int:
    """MB that decoding a folder adds to the peak memory of a process."""
    honest = tmp_path / "honest.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(honest)
    arguments = [sys.executable, "-c", MEASURE, honest, folder, str(max_pixels)]
    return int(subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=100).stdout)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")


@needs_proc
def test_memory_stays_within_the_bound(tmp_path: Path, hostile: Path) -> None:
    grown = measure(tmp_path, hostile, 100_000_000)
    tell("memory of hostile images within 300 MB", int(grown < BOUND_MB), 1, f"{grown} MB more")
    assert grown < BOUND_MB


@needs_proc
def test_without_the_header_check_memory_grows(tmp_path: Path) -> None:
    """The negative control: 0.2 MB that decode to 150 MB, with a limit in place and without."""
    folder = tmp_path / "bombs"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(png(7000, 7000, bytes(1 + 3 * 7000) * 7000))
    assert (folder / "a.jpg").stat().st_size < 250_000
    assert measure(tmp_path, folder, 40_000_000) < 50
    assert measure(tmp_path, folder, 10**9) > 150


def test_pillow_alone_would_open_the_formats_that_are_refused(hostile: Path) -> None:
    """The negative control: by its content, whatever its name, Pillow finds the plugin that calls Ghostscript."""
    path = hostile / f"{list(images()).index('eps'):02d}.jpg"
    with Image.open(path) as opened:
        assert opened.format == "EPS"


def test_a_file_much_larger_than_its_pixels_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    _, bad = load([path], "skip")
    assert "1,099,511,627,776 bytes, more than data.max_pixels (100,000,000) can fill" in bad[0]


def test_the_sentence_says_size_limit_and_key(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (100, 50)).save(path)
    _, bad = load([path], "skip", max_pixels=4999)
    assert bad == ["a.png: cannot be read: 100x50 pixels, 5,000 in all, are more than data.max_pixels (4,999)."]


def test_a_file_that_vanishes_while_it_is_read_is_a_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path)
    upright = decoding._upright

    def upright_and_gone(image: Image.Image) -> Image.Image:
        path.unlink()
        return upright(image)

    monkeypatch.setattr(decoding, "_upright", upright_and_gone)
    assert load([path], "skip") == (0, ["a.png: cannot be read: no such file or directory."])


NAMES = {
    "bytes that are not UTF-8": b"\xff\xfe\x80.jpg",
    "a line feed": b"a\nb.jpg",
    "an escape sequence": b"\x1b]0;owned\x07.jpg",
    "only 255 bytes": b"n" * 251 + b".jpg",
    "a line separator": "a\u2028b.jpg".encode(),
    "right to left": "a\u202egpj.jpg".encode(),
    "a leading dash": b"-rf.jpg",
    "a comma and quotes": b'a,"b".jpg',
}


@pytest.mark.parametrize("kind", NAMES)
def test_odd_names_go_through_every_command(ptft: Ptft, tmp_path: Path, kind: str) -> None:
    make_images(tmp_path / "photos", COLOURS, 4)
    folder = os.fsencode(tmp_path / "photos/red")
    os.rename(folder + b"/000.jpg", folder + b"/" + NAMES[kind])  # noqa: PTH104
    write_config(tmp_path / "run.yaml", train={"steps": 2})
    best = ptft("pretrain", "run.yaml").path
    result = ptft("predict", best, "photos", "--format", "jsonl")
    assert result.code == 0, result.err
    assert len([json.loads(line)["path"] for line in result.out.splitlines()]) == 12
    assert "\x1b" not in result.out + result.err
    assert ptft("evaluate", best, "--data", "photos", "--json").code == 0


def test_what_lies_among_the_images_and_is_none_is_left_out(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "photos", COLOURS, 2)
    os.mkfifo(folder / "red/fifo.jpg")
    (folder / "red/folder.jpg").mkdir()
    (folder / "red/loop").symlink_to(folder)
    (folder / "red/device.jpg").symlink_to("/dev/zero")
    assert len(Folder(root=str(folder)).open().records) == 6


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "photos", COLOURS, 2)
    (folder / "red/self.jpg").symlink_to("self.jpg")
    with pytest.raises(DataError, match=r"self\.jpg"):
        Folder(root=str(folder)).open()


TABLES = {
    "a fifo": None,
    "NUL": b"path,label\n\0,a\n",
    "a field of a megabyte": b"path,label\n" + b"a" * (1 << 20) + b",b\n",
    "a million columns": b"path," + b",".join(b"c%d" % index for index in range(1_000_000)),
    "UTF-16": "path,label\na,b\n".encode("utf-16"),
    "latin-1": "path,label\n\u00e9,b\n".encode("latin-1"),
    "an open quote": b'path,label\n"a,b\n' * 1000,
    "a way out": b"path,label\n../../../etc/passwd,a\n",
    "an absolute path": b"path,label\n/etc/passwd,a\n",
    "a device": b"path,label\n/dev/zero,a\n",
    "a way around": b"path,label\nx/../../../../etc/passwd,a\n",
    "nothing": b"",
    "zeros": bytes(100_000),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_hostile_table_is_one_short_sentence(ptft: Ptft, tmp_path: Path, kind: str) -> None:
    content = TABLES[kind]
    if content is None:
        os.mkfifo(tmp_path / "a.csv")
    else:
        (tmp_path / "a.csv").write_bytes(content)
    write_config(tmp_path / "run.yaml")
    result = ptft("pretrain", "run.yaml", "--set", "data={name: csv, path: a.csv}")
    assert result.code == 3, result.err
    assert "a.csv" in result.err
    assert len(result.err) < 1000
    assert "Traceback" not in result.err


def test_names_that_are_not_utf8_come_out_of_a_real_terminal_program(tmp_path: Path) -> None:
    make_images(tmp_path / "photos", COLOURS, 2)
    os.rename(os.fsencode(tmp_path / "photos/red/000.jpg"), os.fsencode(tmp_path / "photos/red") + b"/\xff.jpg")  # noqa: PTH104
    (tmp_path / "photos/red/001.png").write_bytes(b"no image")
    write_config(tmp_path / "run.yaml")
    result = run_process("pretrain", "run.yaml", cwd=tmp_path)
    assert (result.code, "001.png: cannot be read" in result.err) == (3, True)
