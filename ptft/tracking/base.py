"""What a tracker is told of a run. Its metrics.jsonl stays the truth: a tracker is a copy of it to look at."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ptft.run_folder import RunFolder
from ptft.storage import write_text_durably

Line = Mapping[str, Any]
"""A line of metrics.jsonl: `step`, `epoch`, and numbers by name."""

StepNumbers = tuple[int, Mapping[str, float]]
"""A step and numbers of it by name."""

_PLACE = ("step", "epoch")


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker shows beside the numbers.

    Attributes:
        folder: of the run; its path is the run's name.
        config: resolved, `section.key` of every key.
        facts: by name; what else there is to know when the run begins, such as the command.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Ending:
    """How a run, or this session of it, ended.

    Attributes:
        state: as in status.json.
        exit_code: of the command.
        reason: in words.
        scores: of the final weights, by name; empty when the run did not get there.
        facts: by name; what else there is to know, such as the path of the checkpoint.
    """

    state: Literal["done", "stopped", "failed"]
    exit_code: int
    reason: str
    scores: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """Somewhere else that shows a run."""

    def go_on(self, lines: Sequence[Line], step: int) -> None:
        """Begins, goes on after a pause, or goes back to `step`: these lines are the run so far."""
        ...

    def log(self, line: Line) -> None:
        """Another line."""
        ...

    def pause(self) -> None:
        """No more lines for now, perhaps at all."""
        ...

    def end(self, ending: Ending) -> None:
        """The session is over."""
        ...


def numbers_of(line: Line) -> dict[str, float]:
    """The numbers of a line without its place, and without scores that are not known."""
    return {key: value for key, value in line.items() if key not in _PLACE and value is not None}


def read_note(folder: RunFolder, name: str) -> dict[str, Any]:
    """What a tracker wrote down for the next session, in NAME.json of the run folder; empty before the first."""
    try:
        note = json.loads(folder.note_of(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def write_note(folder: RunFolder, name: str, note: Mapping[str, Any]) -> None:
    """Replaces it.

    Raises:
        StorageError: it cannot be written.
    """
    write_text_durably(folder.note_of(name), json.dumps(note) + "\n")
