"""What the user may have meant: the nearest name, or nothing rather than a silly guess."""

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any

from ptft.config.base import Config
from ptft.config.components import alternatives, is_section, own_names
from ptft.config.wording import KeyPath

_NEAR = 0.6
_VERY_NEAR = 0.8
_MAX_LENGTH = 60  # longer words are no misspelled names, and difflib is quadratic
_NUMBERS = re.compile(r"[0-9]+")


def nearest(word: str, choices: Iterable[str], cutoff: float = _NEAR) -> str | None:
    """The choice most like `word`; among equally near ones that with the nearest number, then the first."""
    if not word or len(word) > _MAX_LENGTH:
        return None
    typed = _plain(word)
    ranked = [(_likeness(typed, _plain(choice)), choice) for choice in choices]
    near = [(likeness, choice) for likeness, choice in ranked if likeness >= cutoff]
    if not near:
        return None
    best = max(likeness for likeness, _ in near)
    return min((choice for likeness, choice in near if likeness == best), key=lambda c: _distance(typed, c))


def nearest_key(path: KeyPath, siblings: Sequence[str], everywhere: Sequence[KeyPath]) -> KeyPath | None:
    """Where an unknown key probably belongs.

    A very near name in its own section comes first, then the same name elsewhere, then looser matches.

    Args:
        path: the unknown key.
        siblings: the keys its section has.
        everywhere: all keys of the config.
    """
    word, section = str(path[-1]), path[:-1]
    if found := nearest(word, siblings, _VERY_NEAR):
        return (*section, found)
    last: dict[str, KeyPath] = {}
    for key in everywhere:
        # A key of another component of this section is no answer.
        if key[:-1] != section:
            last.setdefault(str(key[-1]), key)
    if found := next((name for name in last if _plain(name) == _plain(word)), None):
        return last[found]
    if found := nearest(word, siblings):
        return (*section, found)
    found = nearest(word, last, _VERY_NEAR)
    return last[found] if found else None


def all_keys(model: type[Config], data: Any) -> list[KeyPath]:
    """Every key a config can have, the shallowest first; in a component section, of the component named."""
    found: dict[KeyPath, None] = {}
    level: list[tuple[KeyPath, type[Config], Any]] = [((), model, data)]
    for _ in range(4):
        inner: list[tuple[KeyPath, type[Config], Any]] = []
        for path, section, values in level:
            for key, field in section.keys().items():
                found.setdefault((*path, key))
                value = values.get(key) if isinstance(values, dict) else None
                inner += [((*path, key), member, value) for member in _sections(field.annotation, value)]
        level = inner
    return list(found)


def _sections(annotation: Any, value: Any) -> list[type[Config]]:
    sections = [option for option in alternatives(annotation) if is_section(option)]
    name = value.get("name") if isinstance(value, dict) else None
    return [section for section in sections if name in own_names(section)] or sections


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", "_").replace(" ", "_")


def _likeness(typed: str, choice: str) -> float:
    if typed == choice:
        return 1.0
    if _initials(typed) == choice or typed == _initials(choice):  # learning_rate and lr
        return 0.85
    same_but_numbers = len(choice) > 2 and _NUMBERS.sub("#", typed) == _NUMBERS.sub("#", choice) != "#"
    return max(SequenceMatcher(None, typed, choice).ratio(), 0.9 if same_but_numbers else 0.0)


def _initials(word: str) -> str:
    parts = [part for part in word.split("_") if part]
    return "".join(part[0] for part in parts) if len(parts) > 1 else ""


def _distance(typed: str, choice: str) -> int:
    pairs = zip(_NUMBERS.findall(typed), _NUMBERS.findall(choice), strict=False)
    return sum(abs(int(a) - int(b)) for a, b in pairs)
