"""Everything said on stderr: a bar on a terminal, plain lines with time between them elsewhere."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from ptft.data.sources.listing import printable

# A line every 5 seconds at first; later ones further apart, so that a night's log stays short.
_SECONDS_BETWEEN_LINES = 5.0
_SHARE_BETWEEN_LINES = 0.02


class Console:
    """Speaks on stderr and, once a run folder is known, into its log.txt as well.

    stdout is never touched: it carries the result.

    Args:
        stream: normally sys.stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._log: TextIO | None = None
        self._bar: Bar | None = None

    def log_to(self, path: Path) -> None:
        """From now on everything said also goes to the end of this file, with the time."""
        self.close()
        try:
            self._log = path.open("a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            self._lose_log(error)

    def close(self) -> None:
        """Closes the log file."""
        log, self._log = self._log, None
        if log is not None:
            with suppress(OSError):
                log.close()

    def say(self, text: str = "") -> None:
        """One or more plain lines, above the bar where there is one."""
        if self._bar is not None:
            self._bar.write(text)
        else:
            write_line(self._stream, text)
        self.note(text)

    def note(self, text: str) -> None:
        """Into the log only."""
        if self._log is not None and text:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            try:
                self._log.writelines(f"{stamp} {line}\n" for line in text.splitlines())
                self._log.flush()
            except OSError as error:
                self._lose_log(error)

    def _lose_log(self, error: OSError) -> None:
        """A log that cannot be written is no reason to end a run: what else is on that disk will tell."""
        self.close()
        write_line(self._stream, f"ptft: log.txt can no longer be written: {error.strerror}.")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
        """A table in plain text; the first column is text, the others are numbers."""
        columns, rows = [*map(printable, columns)], [[*map(printable, cells)] for cells in rows]
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        lines = [title] if title else []
        for cells in (columns, *rows):
            first, *others = zip(cells, widths, strict=True)
            line = "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])
            lines.append("  " + line.rstrip())
        self.say("\n".join(lines))

    def bar(self, num_steps: int, done: int) -> "Bar":
        """Progress of a loop; use it as a context manager."""
        self._bar = Bar(self, self._stream, num_steps, done)
        return self._bar

    def bar_ended(self) -> None:
        """What is said from now on is not above a bar."""
        self._bar = None


@contextmanager
def silent() -> Iterator[Console]:
    """A console that nobody hears but the log.txt of its run."""
    with Path(os.devnull).open("w") as nowhere:
        yield Console(nowhere)


class Bar:
    """Progress over steps: tqdm's bar on a terminal, else a line every few seconds.

    Args:
        console: that owns it.
        stream: where it goes.
        num_steps: all steps.
        done: steps completed before it starts.
    """

    def __init__(self, console: Console, stream: TextIO, num_steps: int, done: int) -> None:
        from tqdm import tqdm

        self._console = console
        self._stream = stream
        self._num_steps = num_steps
        self._begun, self._start = done, time.monotonic()
        self._spoken = self._told = self._start
        self._tqdm = (
            tqdm(total=num_steps, initial=done, file=stream, unit="step", leave=False, dynamic_ncols=True)
            if stream.isatty()
            else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tqdm is not None:
            self._tqdm.close()
        self._console.bar_ended()

    def write(self, text: str) -> None:
        """Plain lines above the bar."""
        if self._tqdm is not None:
            self._tqdm.clear()
        write_line(self._stream, text)
        if self._tqdm is not None:
            self._tqdm.refresh()

    def say(self, text: str) -> None:
        """A line of news that must not be missed."""
        self._console.say(text)

    def tell(self, text: str) -> None:
        """A line of scores: always on a terminal and in the log file, elsewhere seconds apart like progress."""
        now = time.monotonic()
        if self._tqdm is not None or self._is_due(now, self._told):
            self._told = now
            self._console.say(text)
        else:
            self._console.note(text)

    def _is_due(self, now: float, last: float) -> bool:
        return now - last >= max(_SECONDS_BETWEEN_LINES, _SHARE_BETWEEN_LINES * (now - self._start))

    def update(self, step: int, note: str) -> None:
        """Tells how far the loop is.

        Args:
            step: steps completed.
            note: numbers to show beside, for example `loss 0.53`.
        """
        if self._tqdm is not None:
            self._tqdm.set_postfix_str(note, refresh=False)
            self._tqdm.update(step - self._tqdm.n)
            return
        now = time.monotonic()
        if not self._is_due(now, self._spoken):
            return
        self._spoken = now
        rate = (step - self._begun) / (self._spoken - self._start)
        left = (self._num_steps - step) / rate if rate > 0 else 0.0  # less after going back
        self._console.say(f"step {step:,}/{self._num_steps:,}  {note}  {duration(left)} left")


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def write_line(stream: TextIO, text: str) -> None:
    """Writes and flushes text, escaping control characters and what the stream's encoding cannot carry: odd names
    must not end a run or steer a terminal."""
    text = "\n".join(map(printable, text.split("\n")))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with suppress(OSError):  # whoever listened is gone; the work goes on
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
