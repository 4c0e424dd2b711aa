"""PyYAML's syntax errors in plain words, placed at the mistake rather than where the scanner gave up."""

import re
from typing import Final

import yaml

from ptft.config.wording import KeyPath, printable

_OPENING: Final = "opening"
_HERE: Final = "here"
# What PyYAML says, which of its two marks is the mistake, and what we say. The first match counts.
_SENTENCES: Final[tuple[tuple[str, str, str], ...]] = (
    (r"character '\\t'", _HERE, "a tab cannot indent a line or begin a value. Use spaces."),
    (r"character '(.+)' that cannot start", _HERE, "a value cannot begin with '{0}'. Put it in quotes."),
    (
        r"mapping values are not allowed",
        _HERE,
        "a ':' too many. Check the indentation, or put the text in quotes.",
    ),
    (r"unexpected end of stream", _OPENING, "a quote opens here and is never closed."),
    (r"unexpected document separator", _OPENING, "a quote opens here and is not closed before the line ---."),
    (
        r"expected ',' or '(.)', but got '<stream end>'",
        _OPENING,
        "a bracket opens here and is never closed by '{0}'.",
    ),
    (r"expected ',' or '(.)'", _OPENING, "a bracket opens here; a comma or its '{0}' is missing."),
    (
        r"expected <block end>",
        _HERE,
        "the indentation does not fit, or a quote or bracket is closed early.",
    ),
    (r"could not find expected ':'", _OPENING, "a key without a ':' after it."),
    (
        r"unknown escape character '(.+)'",
        _HERE,
        "\\{0} is no escape. Write \\\\ for a backslash, or use single quotes.",
    ),
    (r"expected the node content", _HERE, "a value is missing here."),
    (r"expected '<document start>'", _HERE, "the value before this has ended. Check quotes, brackets and indentation."),
    (r"expected alphabetic or numeric", _HERE, "a value cannot begin with * or &. Put it in quotes."),
    (r"undefined tag handle", _HERE, "tags are not supported. Write the plain value."),
)


def explain(error: yaml.MarkedYAMLError) -> tuple[int, KeyPath, str]:
    """Line, key (always the document's) and sentence for a syntax error."""
    problem = " ".join(part for part in (error.problem, error.context) if part)
    for pattern, place, sentence in _SENTENCES:
        if match := re.search(pattern, problem):
            mark = error.context_mark if place == _OPENING else error.problem_mark
            return _line(mark or error.problem_mark), (), sentence.format(*map(printable, match.groups()))
    return _line(error.problem_mark), (), f"not valid YAML: {printable(problem, 200)}."


def _line(mark: yaml.Mark | None) -> int:
    return mark.line + 1 if mark else 1
