"""The console: a bar on a terminal, plain lines with time between them elsewhere."""

import fcntl
import io
import itertools
import os
import pty
import struct
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from ptft.report.console import Console, duration


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("ptft.report.console.time.monotonic", clock.monotonic)
    return clock


def test_lines_in_a_log_are_seconds_apart_and_further_apart_later(clock: Clock) -> None:
    stream = io.StringIO()
    spoken = []
    with Console(stream).bar(num_steps=100_000, done=0) as bar:
        for step in range(1, 36_001):
            clock.now = step * 1.0
            before = stream.tell()
            bar.update(step, "loss 0.5")
            spoken += [clock.now] if stream.tell() > before else []
    gaps = [later - earlier for earlier, later in itertools.pairwise(spoken)]
    assert min(gaps) >= 5
    assert len(spoken) < 400  # ten hours
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().splitlines()[0] == "step 5/100,000  loss 0.5  27 h 46 min left"


def read_to_the_end(controller: int) -> str:
    """All that was written to the other side, which is closed; the kernel hands it over in pieces."""
    pieces = []
    with os.fdopen(controller, "rb", buffering=0) as stream, suppress(OSError):
        while piece := stream.read(10_000):
            pieces.append(piece)
    return b"".join(pieces).decode()


def test_a_terminal_gets_a_bar_and_lines_above_it() -> None:
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(terminal, "w") as stream, Console(stream).bar(num_steps=10, done=0) as bar:
        bar.update(5, "loss 0.5")
        bar.write("a line")
    text = read_to_the_end(controller)
    assert "5/10" in text or "50%" in text
    assert "\r" in text
    assert "a line" in text


def test_everything_said_is_in_the_log_with_its_time(tmp_path: Path) -> None:
    console = Console(io.StringIO())
    console.log_to(tmp_path / "log.txt")
    console.say("two\nlines")
    console.note("a note")
    console.close()
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line[20:] for line in lines] == ["two", "lines", "a note"]
    assert all(line[:2] == "20" for line in lines)


def test_names_that_the_stream_cannot_carry_are_escaped() -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="ascii")
    Console(stream).say("façade \udcff.jpg")
    assert buffer.getvalue() == b"fa\\xe7ade \\xff.jpg\n"


def test_a_name_with_a_line_break_stays_in_its_row_of_a_table() -> None:
    stream = io.StringIO()
    Console(stream).table(["class", "n"], [["ant\nbee", "1"], ["fly", "20"]])
    assert stream.getvalue().splitlines() == ["  class      n", "  ant\\nbee   1", "  fly       20"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text
