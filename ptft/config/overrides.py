"""`--set key=value`: changes to a document from the command line, with the same checks as the file."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ptft.config.document import MAX_DEPTH, Document, parse_value
from ptft.config.wording import KeyPath, dotted, printable, shown
from ptft.errors import ConfigError, Fault


def override(document: Document, settings: Sequence[str]) -> Document:
    """The document with every `key=value` applied in order; what cannot be applied is among its faults.

    A dotted key reaches any depth and creates the sections on its way; a value replaces what was there, whole
    sections included.
    """
    changed = replace(
        document, data=copy.deepcopy(document.data), lines=dict(document.lines), places=dict(document.places)
    )
    faults: list[Fault] = []
    for setting in settings:
        place = f"--set {printable(setting)}"
        try:
            path, value = _split(setting)
            created = _put(changed.data, path, value)
        except ConfigError as error:
            faults += [replace(fault, line=0, place=place) for fault in error.faults]
            continue
        for origins in (changed.lines, changed.places):
            for stale in [key for key in origins if key[: len(path)] == path]:
                del origins[stale]
        changed.places.update(dict.fromkeys([*created, path], place))
    return replace(changed, faults=(*document.faults, *faults))


def _split(setting: str) -> tuple[KeyPath, Any]:
    key, equals, text = setting.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals:
        raise _malformed((), "expected key=value, for example optim.lr=0.1.")
    if not all(path):
        raise _malformed((), "the key before = is empty or has an empty part.")
    if len(path) > MAX_DEPTH:
        raise _malformed((), f"the key is nested deeper than {MAX_DEPTH} levels.")
    return path, parse_value(text, path)


def _put(data: dict[str, Any], path: KeyPath, value: Any) -> list[KeyPath]:
    """Sets the value; returns the sections that had to be created."""
    created: list[KeyPath] = []
    section = data
    for end, part in enumerate(map(str, path[:-1]), start=1):
        inner = section.get(part)
        if inner is None:
            inner = section[part] = {}
            created.append(path[:end])
        elif not isinstance(inner, dict):
            message = f"{dotted(path[:end])} is {shown(inner)}, which has no keys. Set it as a whole."
            raise _malformed(path, message)
        section = inner
    section[str(path[-1])] = value
    return created


def _malformed(path: KeyPath, message: str) -> ConfigError:
    """An override that cannot be applied."""
    return ConfigError("--set", [Fault(0, dotted(path), message)])
