"""What the validator found -> one sentence for each fault: what was wrong, where, and what to do."""

from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ptft.config.base import Config, MisfitError
from ptft.config.components import alternatives, literals, names
from ptft.config.document import MAX_FAULTS, Document
from ptft.config.expected import describe, example, word
from ptft.config.spots import Spot, locate
from ptft.config.suggest import all_keys, nearest, nearest_key
from ptft.config.wording import KeyPath, dotted, either, listed, shown
from ptft.errors import Fault

KINDS: Final[dict[str, tuple[str, str]]] = {
    "model": ("a model", "models"),
    "data": ("a data source", "datasets"),
    "objective": ("an objective", "objectives"),
    "augment": ("an augmentation", "augmentations"),
    "optim": ("an optimizer", "optimizers"),
    "schedule": ("a schedule", "schedules"),
    "recipe": ("a recipe", "recipes"),
    "tracking": ("a tracker", "trackers"),
}
"""Section, or key with a fixed choice -> what it holds in a sentence, and what `ptft list` calls it."""

_LIMITS: Final[dict[str, tuple[str, str]]] = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}
_SIZES: Final[dict[str, tuple[str, str, str]]] = {
    "too_short": ("min_length", "at least", "item"),
    "too_long": ("max_length", "at most", "item"),
    "string_too_short": ("min_length", "at least", "character"),
    "string_too_long": ("max_length", "at most", "character"),
}


def translate(error: ValidationError, model: type[Config], document: Document) -> list[Fault]:
    """The faults of a config, in no particular order; after the first `MAX_FAULTS` only their number.

    Args:
        error: from validating `document.data`.
        model: the model it was validated against.
        document: gives the lines.
    """
    explainer = _Explainer(model, document)
    decided: list[tuple[KeyPath, str]] = []
    open_choices: dict[KeyPath, list[tuple[Spot, ErrorDetails]]] = {}
    details = [detail for detail in error.errors(include_url=False) if not _is_echo(detail)]
    for detail in details[:MAX_FAULTS]:
        spot = locate(model, detail["loc"])
        if spot.member:
            open_choices.setdefault(spot.path, []).append((spot, detail))
        else:
            decided.append(explainer.sentence(spot, detail))
    for path, choices in open_choices.items():
        # A fault inside one of the types tells which type was meant: then the others have nothing to say.
        if not any(found[: len(path)] == path and len(found) > len(path) for found, _ in decided):
            decided.append(explainer.sentence(*_most_telling(choices)))
    faults = [document.fault(path, message) for path, message in decided]
    if len(details) > MAX_FAULTS:
        faults.append(document.fault((), f"and {len(details) - MAX_FAULTS} more faults."))
    return faults


def _is_echo(detail: ErrorDetails) -> bool:
    """Whether a list is called too short only because items of it are at fault, each of which is told by itself."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def _most_telling(choices: list[tuple[Spot, ErrorDetails]]) -> tuple[Spot, ErrorDetails]:
    """An error about the value itself, such as a range, before one that says the type is another."""
    telling = (choice for choice in choices if choice[1]["type"] in _SENTENCES.keys() - {"literal_error"})
    return next(telling, choices[0])


class _Explainer:
    """Knows the config as a whole, which sentences about one key need."""

    def __init__(self, model: type[Config], document: Document) -> None:
        self.everywhere = all_keys(model, document.data)

    def sentence(self, spot: Spot, error: ErrorDetails) -> tuple[KeyPath, str]:
        """The key that a fault is about, and its message."""
        kind = error["type"]
        if kind == "union_tag_not_found":
            return (*spot.path, "name"), _unnamed(spot)
        if kind == "union_tag_invalid":
            path = (*spot.path, "name")
            return path, _not_one_of(path, error["input"]["name"], names(spot.annotation))
        if kind == "literal_error" and not spot.member:
            choices = list(map(word, literals(spot.annotation)))
            return spot.path, _not_one_of(spot.path, error["input"], choices)
        if kind == "extra_forbidden":
            return spot.path, self._unknown_key(spot)
        if kind == "value_error" and isinstance(misfit := error["ctx"]["error"], MisfitError):
            return (*spot.path, *misfit.key.split(".")), misfit.message
        return spot.path, _SENTENCES.get(kind, _wrong_type)(spot, error)

    def _unknown_key(self, spot: Spot) -> str:
        keys = list(spot.section.keys()) if spot.section else []
        meant = nearest_key(spot.path, keys, self.everywhere)
        advice = f"Did you mean {dotted(meant)}?" if meant else f"Known here: {listed(keys, limit=40)}."
        return f"unknown key. {advice}"


def _kind(path: KeyPath) -> tuple[str, str] | None:
    """The row of KINDS for a key: of its section when it is a name, else its own."""
    words = [part for part in path if isinstance(part, str)]
    key = words[-2] if len(words) > 1 and words[-1] == "name" else words[-1]
    return KINDS.get(key)


def _not_one_of(path: KeyPath, value: Any, choices: list[str]) -> str:
    kind = _kind(path)
    meant = nearest(value, choices) if isinstance(value, str) else None
    suggestion = f" Did you mean {meant}?" if meant else ""
    if kind:
        return f"{shown(value)} is not {kind[0]}.{suggestion} `ptft list {kind[1]}` shows all."
    if len(choices) == 1:
        return f"{shown(value)} cannot be used here. Write {choices[0]}."
    return f"{shown(value)} is not one of {listed(choices)}.{suggestion}"


def _unnamed(spot: Spot) -> str:
    kind = _kind((*spot.path, "name"))
    some = either(names(spot.annotation)[:3])
    return f"missing. Write for example {some}." + (f" `ptft list {kind[1]}` shows all." if kind else "")


def _missing(spot: Spot, error: ErrorDetails) -> str:
    return "missing." + _example(spot)


def _limit(spot: Spot, error: ErrorDetails) -> str:
    name, words = _LIMITS[error["type"]]
    limit = error["ctx"][name]
    number = int(limit) if isinstance(limit, float) and limit.is_integer() else limit
    return f"must be {words} {number}, got {shown(error['input'])}."


def _size(spot: Spot, error: ErrorDetails) -> str:
    name, words, unit = _SIZES[error["type"]]
    limit = error["ctx"][name]
    return f"must have {words} {limit} {unit}{'' if limit == 1 else 's'}, got {len(error['input'])}."


def _pattern(spot: Spot, error: ErrorDetails) -> str:
    return f"{shown(error['input'])} does not have the form {error['ctx']['pattern']}." + _example(spot)


def _custom(spot: Spot, error: ErrorDetails) -> str:
    return str(error["ctx"]["error"])


def _not_finite(spot: Spot, error: ErrorDetails) -> str:
    return "must be a finite number." + _example(spot)


def _wrong_type(spot: Spot, error: ErrorDetails) -> str:
    value, expected = error["input"], describe(spot.annotation)
    start = f"expected {expected}, got {shown(value)}." if expected else f"{shown(value)} cannot be used here."
    unquoted = isinstance(value, bool | int | float) or (value is None and spot.field is None)
    if str in alternatives(spot.annotation) and unquoted:
        return f"{start} Put it in quotes."
    choices = list(map(word, literals(spot.annotation)))
    if isinstance(value, str) and (meant := nearest(value, choices)):
        return f"{start} Did you mean {meant}?"
    return start + _example(spot, value)


def _example(spot: Spot, value: Any = None) -> str:
    text = example(spot.annotation, spot.field, value)
    return f" Write for example {text}." if text else ""


_SENTENCES: Final[dict[str, Callable[[Spot, ErrorDetails], str]]] = {
    **dict.fromkeys(_LIMITS, _limit),
    **dict.fromkeys(_SIZES, _size),
    "missing": _missing,
    "value_error": _custom,
    "assertion_error": _custom,
    "string_pattern_mismatch": _pattern,
    "finite_number": _not_finite,
}
