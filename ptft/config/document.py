"""YAML text -> plain values, with the line of every key: a safe loader for configs.

PyYAML only scans and parses; the values are built here from its events, one at a time, so that nothing is
built before it is checked. Refused: duplicate keys, anchors and aliases, merges, tags, several documents,
numbers that are not finite, and anything larger than a config can reasonably be. Since aliases are refused,
the length of all scalars together is bounded by the size of the file.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ptft.config.scalars import resolve
from ptft.config.syntax import explain
from ptft.config.wording import KeyPath, dotted, printable
from ptft.errors import ConfigError, Fault

MAX_BYTES = 1 << 17
MAX_DEPTH = 20
MAX_NODES = 5_000
MAX_FAULTS = 50


@dataclass(frozen=True)
class Document:
    """A config as it was written, before any check against a model.

    Attributes:
        data: the values, as dicts, lists and scalars.
        lines: the 1-based line of every key and list item; `()` is the document itself.
        source: how messages name it, normally the path as the user typed it.
        places: what stands in a message instead of `file:line`, for keys that came from the command line.
        faults: what is wrong with the text although it could be read to the end.
    """

    data: dict[str, Any]
    lines: dict[KeyPath, int]
    source: str
    places: dict[KeyPath, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()

    def fault(self, path: KeyPath, message: str) -> Fault:
        """A fault of the key at `path`, placed at that key or at the innermost section around it."""
        for end in range(len(path), -1, -1):
            if place := self.places.get(path[:end]):
                return Fault(0, dotted(path), message, place)
            if line := self.lines.get(path[:end]):
                return Fault(line, dotted(path), message)
        return Fault(0, dotted(path), message)


def read(path: Path) -> Document:
    """Reads a config file.

    Raises:
        ConfigError: the file is missing, too large, not UTF-8 or not YAML with a section at its top.
    """
    source = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _whole(source, "file not found.") from None
    except IsADirectoryError:
        raise _whole(source, "is a folder. Name the config file inside it.") from None
    except PermissionError:
        raise _whole(source, "no permission to read the file.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = error.strerror if isinstance(error, OSError) else None
        raise _whole(source, f"cannot be read: {reason or error}.") from None
    if len(content) > MAX_BYTES:
        raise _whole(source, f"larger than {MAX_BYTES >> 10} KiB. A config holds settings, not data.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(source, [Fault(line, "", "not UTF-8 text. Save the file as UTF-8.")]) from None
    return parse(text, source)


def parse(text: str, source: str) -> Document:
    """Reads a config from text.

    Faults that do not stop the reading, such as duplicate keys, are in the document's `faults`, so that they
    can be reported together with what a model finds.

    Raises:
        ConfigError: the text is not YAML, too deep or too long, empty, or has no section at its top.
    """
    reader = _Reader(source)
    value = reader.read(text)
    if value is None and not reader.faults:
        raise ConfigError(source, [Fault(1, "", "the config is empty. `ptft init` writes one to start from.")])
    if not isinstance(value, dict):
        fault = Fault(1, "", "expected keys and values such as `seed: 0` at the top of the config.")
        raise ConfigError(source, [*reader.faults, fault])
    return Document(value, {(): 1, **reader.lines}, source, faults=tuple(reader.faults))


def parse_value(text: str, path: KeyPath = ()) -> Any:
    """The value of `--set key=text`: list, section or quotes as in YAML, anything else an unquoted scalar.

    Args:
        text: the value as it was typed.
        path: the key it is for; faults are named by it.

    Raises:
        ConfigError: the text is not a valid value.
    """
    stripped = text.strip()
    if stripped.startswith(("[", "{", '"', "'")):
        reader = _Reader("value", path)
        value = reader.read(stripped)
        if reader.faults:
            raise ConfigError("value", reader.faults)
        return value
    try:
        return resolve(stripped)
    except ValueError as error:
        raise ConfigError("value", [Fault(0, dotted(path), str(error))]) from None


def _whole(source: str, message: str) -> ConfigError:
    return ConfigError(source, [Fault(0, "", message)])


class _Reader:
    """Builds the values of one document, or of the one value at `root`, from PyYAML's events."""

    def __init__(self, source: str, root: KeyPath = ()) -> None:
        self.source = source
        self.root = root
        self.lines: dict[KeyPath, int] = {}
        self.faults: list[Fault] = []
        self._nodes = 0
        self._line = 1

    def read(self, text: str) -> Any:
        """The value of the whole text, None if there is none."""
        self._events = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        try:
            self._next()
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self._stop(line, (), "a control character that YAML does not allow.")
        if isinstance(event := self._next(), yaml.StreamEndEvent):
            return None
        value = self._value(self._next(), self.root)
        self._next()
        if not isinstance(event := self._next(), yaml.StreamEndEvent):
            self._stop(_line(event), (), "a second document begins here. A config is one document.")
        return value

    def _next(self) -> yaml.Event:
        try:
            event: yaml.Event = next(self._events)
        except yaml.MarkedYAMLError as error:
            self._stop(*explain(error))
        except (ValueError, OverflowError):  # PyYAML's chr() and int() on escapes and versions out of range
            self._stop(self._line, (), "not valid YAML: an escape near this line names no character.")
        self._line = _line(event)
        return event

    def _value(self, event: yaml.Event, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(_line(event), (), f"more than {MAX_NODES} values. A config holds settings, not data.")
        if len(path) > MAX_DEPTH:
            self._stop(_line(event), (), f"nested deeper than {MAX_DEPTH} levels.")
        self._refuse_features(event, path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._section(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        return None

    def _section(self, path: KeyPath) -> dict[str, Any]:
        section: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, path)
            inner = (*path, key)
            if key in section:
                first = self.lines[inner]
                found = "there twice" if first == _line(event) else f"already set in line {first}"
                self._fault(_line(event), inner, f"{found}. Keep one of the two.")
            self.lines.setdefault(inner, _line(event))
            section.setdefault(key, self._value(self._next(), inner))
        return section

    def _key(self, event: yaml.Event, path: KeyPath) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._stop(_line(event), path, "a key must be text, not a list, a section or an alias.")
        self._refuse_features(event, (*path, event.value))
        if not _is_text(event.value):
            self._stop(_line(event), path, "an escape that names half a character.")
        if event.value == "<<" and not event.style:
            self._fault(_line(event), path, "merges (<<) are not supported. Write the keys out.")
        return str(event.value)

    def _list(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            inner = (*path, len(items))
            self.lines.setdefault(inner, _line(event))
            items.append(self._value(event, inner))
        return items

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Any:
        if event.style:
            # `\\ud800` names half a character; nothing could be written with it. Undecodable bytes of paths can.
            if not _is_text(event.value):
                self._fault(_line(event), path, "an escape that names half a character.")
            return event.value
        try:
            return resolve(event.value)
        except ValueError as error:
            self._fault(_line(event), path, str(error))
            return None

    def _refuse_features(self, event: yaml.Event, path: KeyPath) -> None:
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            name = printable(event.anchor)
            if isinstance(event, yaml.AliasEvent):
                self._fault(_line(event), path, f"aliases (*{name}) are not supported. Write the value again.")
            else:
                self._fault(_line(event), path, f"anchors (&{name}) are not supported. Remove it.")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            name = printable(event.tag.replace("tag:yaml.org,2002:", "!!"))
            self._fault(_line(event), path, f"tags ({name}) are not supported. Write the plain value.")

    def _fault(self, line: int, path: KeyPath, message: str) -> None:
        self.faults.append(Fault(line, dotted(path or self.root), message))
        if len(self.faults) >= MAX_FAULTS:
            raise ConfigError(self.source, self.faults)

    def _stop(self, line: int, path: KeyPath, message: str) -> NoReturn:
        raise ConfigError(self.source, [*self.faults, Fault(line, dotted(path or self.root), message)])


def _is_text(value: str) -> bool:
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
