"""Which unquoted YAML texts are numbers, booleans or null; every other text is a string.

The rules are the YAML 1.2 core schema with its traps taken out: `no`, `on`, `012`, `1:30`, `0x1F`, `1_000`
and `2020-01-01` stay strings (they are class names more often than anything else), and `1e-3` is a number.
"""

import math
import re
from typing import Final

Scalar = str | int | float | bool | None

_CONSTANTS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "True": True,
    "false": False,
    "False": False,
}
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 300  # every such whole number also fits a float


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar.

    Raises:
        ValueError: for a number that is infinite, not a number or too long; its text is the sentence to show.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number. Put it in quotes if it is text.")
    if _WHOLE.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ValueError(f"a number of more than {_MAX_DIGITS} digits. Put it in quotes if it is text.")
        return int(text)
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError("a number too large to be finite. Put it in quotes if it is text.")
        return number
    return text


def is_string(text: str) -> bool:
    """Whether the unquoted text would be read as a string."""
    try:
        return isinstance(resolve(text), str)
    except ValueError:
        return False
