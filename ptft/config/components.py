"""What a discriminated union of components knows: its members, their names, one line for each."""

from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ptft.config.base import Config


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows besides None, with nested unions and Annotated taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return alternatives(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        return tuple(option for part in get_args(annotation) for option in alternatives(part))
    return () if annotation is type(None) else (annotation,)


def members(union: Any) -> tuple[type[Config], ...]:
    """The components of a union such as `Annotated[A | B, Field(discriminator="name")]`, in order."""
    return tuple(option for option in alternatives(union) if is_component(option))


def names(union: Any) -> list[str]:
    """Every name that a component of the union answers to, in order."""
    return [name for member in members(union) for name in own_names(member)]


def summaries(union: Any) -> dict[str, str]:
    """Name -> the first line of its component's docstring, in order."""
    return {name: line for member in members(union) for name, line in member.summaries().items()}


def is_section(annotation: Any) -> bool:
    """Whether a type is a Config."""
    return isinstance(annotation, type) and issubclass(annotation, Config)


def is_component(annotation: Any) -> bool:
    """Whether a type is a Config with a literal `name`."""
    return is_section(annotation) and bool(own_names(annotation))


def own_names(section: type[Config]) -> list[str]:
    """The names a component answers to; empty for a Config that is no component."""
    field = section.model_fields.get("name")
    return list(map(str, literals(field.annotation))) if field else []


def literals(annotation: Any) -> list[Any]:
    """The values of all Literals in an annotation."""
    return [value for option in alternatives(annotation) for value in _values(option)]


def _values(option: Any) -> Iterable[Any]:
    return get_args(option) if get_origin(option) is Literal else ()
