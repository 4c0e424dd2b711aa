"""From where the validator found an error to the key the user wrote and to what the model expects there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from ptft.config.base import Config
from ptft.config.components import alternatives, is_section, own_names
from ptft.config.wording import KeyPath


@dataclass(frozen=True)
class Spot:
    """A key of a config, seen through its model.

    Attributes:
        path: the key as the user writes it.
        annotation: the type the model has for its value; None for an unknown key.
        field: the field that holds the value; None for an unknown key, an item of a list, the top.
        section: the Config that has, or lacks, the key; None for an item of a list and for the top.
        member: when the value may have several unrelated types and this is an error of only one of them, what
            is left of the way to that error; empty otherwise.
    """

    path: KeyPath
    annotation: Any
    field: FieldInfo | None = None
    section: type[Config] | None = None
    member: tuple[str | int, ...] = ()


def locate(model: type[Config], loc: Sequence[str | int]) -> Spot:
    """Walks `loc` down the model, skipping the parts that name a member of a union instead of a key."""
    spot = Spot((), model)
    rest = tuple(loc)
    while rest:
        options = alternatives(spot.annotation)
        step, inner = rest[0], rest[1:]
        if len(options) > 1:
            chosen = _member(options, step, deeper=bool(inner))
            if chosen is None:
                return Spot(spot.path, spot.annotation, spot.field, spot.section, member=rest)
            spot = Spot(spot.path, chosen, spot.field, spot.section)
        else:
            spot = _descend(spot, options[0] if options else None, step)
        rest = inner
    return spot


def _member(options: tuple[Any, ...], label: str | int, deeper: bool) -> Any:
    """The option that the validator labels so, if the error lies inside it; None if the choice is open."""
    sections: list[type[Config]] = [option for option in options if is_section(option)]
    for section in sections:
        if label in own_names(section):
            return section
    if not deeper:
        return None
    # Without names a section is labelled by its class, perhaps as function-after[check(), Class].
    text = str(label)
    for section in sections:
        if section.__name__ in (text, text.rstrip("]").rpartition(" ")[2]):
            return section
    kind = text.partition("[")[0]
    return next((option for option in options if getattr(get_origin(option), "__name__", "") == kind), None)


def _descend(spot: Spot, container: Any, step: str | int) -> Spot:
    path = (*spot.path, step)
    if is_section(container):
        field = container.keys().get(str(step))
        return Spot(path, field.annotation if field else None, field, container)
    items = get_args(container)
    if get_origin(container) is dict:
        return Spot(path, items[1])
    if get_origin(container) is tuple and Ellipsis not in items and isinstance(step, int):
        items = items[step : step + 1]
    return Spot(path, items[0] if items else None)
