"""How keys and values are spelled inside a sentence: short, on one line, free of control characters."""

from collections.abc import Mapping
from typing import Any

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys of sections and 0-based positions in lists, from the top."""

_MAX_LENGTH = 60


def printable(text: str, limit: int = _MAX_LENGTH) -> str:
    """The text cut to `limit` characters, control and invisible characters escaped."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in short)


def dotted(path: KeyPath) -> str:
    """`("data", "classes", 0)` as `data.classes[0]`."""
    key = ""
    for part in path:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            key += f".{printable(part)}" if key else printable(part)
    return key


def shown(value: Any) -> str:
    """A value as it is named after `got`: `'ten'`, `3`, `true`, `null`, `a list`, `a section`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value if len(value) <= _MAX_LENGTH else value[: _MAX_LENGTH - 1] + "…")
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list | tuple):
        return "a list"
    return printable(str(value))


def rounded(value: float, digits: int = 4) -> str:
    """A number of any unit to so many significant digits: `0.008358`, `37.2`, `250,000`; whole ones are not cut."""
    short = f"{value:.{digits}g}"
    return f"{value:,.0f}" if 1_000 <= abs(float(short)) < 1e15 else short


def listed(words: list[str], limit: int = 20) -> str:
    """`a, b, c`, at most `limit` of them."""
    return ", ".join([*map(printable, words[:limit]), *(["…"] if len(words) > limit else [])])


def either(words: list[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *first, last = words or [""]
    return f"{', '.join(first)} or {last}" if first else last


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value that is not a section itself, by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
