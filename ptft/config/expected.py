"""What a key takes, in words and as an example to write."""

import math
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from ptft.config.base import Config
from ptft.config.components import alternatives, is_section, literals, own_names
from ptft.config.wording import either, printable, shown
from ptft.config.yaml_text import one_line

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
    set: "a list",
    frozenset: "a list",
    dict: "a section",
}
_LONG_EXAMPLE = 80
_SWITCHES = {
    **dict.fromkeys(("true", "yes", "on", "1"), "true"),
    **dict.fromkeys(("false", "no", "off", "0"), "false"),
}


def describe(annotation: Any) -> str:
    """`a whole number`, `a list`, `a number, auto or none`; empty for a type this module has no word for."""
    words: dict[str, None] = {}
    for option in alternatives(annotation):
        if get_origin(option) is Literal:
            words.update(dict.fromkeys(printable(word(value)) for value in literals(option)))
        elif is_section(option):
            words["a section"] = None
        elif option is bool:
            words.update({"true": None, "false": None})
        elif (found := _WORDS.get(get_origin(option) or option)) is not None:
            words[found] = None
        else:
            return ""
    return either(list(words))


def example(annotation: Any, field: FieldInfo | None = None, value: Any = None) -> str:
    """Something valid to write, in YAML on one line; empty when there is nothing good to show.

    Args:
        annotation: the type of the value.
        field: the field that holds it; None for an item of a list.
        value: what the user wrote; if it is the right thing in a wrong spelling, the right one is shown.
    """
    if repaired := _repaired(value, annotation):
        return repaired
    text = _from_field(field) or _from_annotation(annotation)
    return text if len(text) <= _LONG_EXAMPLE else ""


def word(value: Any) -> str:
    """A choice as the user writes it."""
    return value if isinstance(value, str) else shown(value)


def _repaired(value: Any, annotation: Any) -> str:
    options = alternatives(annotation)
    if value is None or isinstance(value, list | dict):
        return ""
    if any(is_section(option) and value in own_names(option) for option in options):
        return f"{{name: {value}}}"
    if items := [get_args(option)[0] for option in options if get_origin(option) is tuple]:
        return _listed(value, items[0])
    if isinstance(value, str) and value in literals(annotation):
        return one_line(value)
    if bool in options and str(value).lower() in _SWITCHES:
        return _SWITCHES[str(value).lower()]
    try:
        number = float(value)
    except ValueError:
        return ""
    if not math.isfinite(number) or isinstance(value, bool):
        return ""
    if int in options and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return one_line(number) if float in options else ""


def _listed(value: Any, item: Any) -> str:
    """What was written without the brackets of a list, with them."""
    if isinstance(value, str) and str in alternatives(item):
        return one_line([part.strip() for part in value.split(",")])
    only = _repaired(value, item)
    return f"[{only}]" if only else ""


def _from_field(field: FieldInfo | None) -> str:
    if field is None:
        return ""
    values = [*(field.examples or []), *_noted_examples(field.annotation)]
    if not field.is_required() and not field.default_factory_takes_validated_data:
        values.append(field.get_default(call_default_factory=True, validated_data={}))
    for value in values:
        if isinstance(value, Config):
            return _from_section(type(value))
        if value not in (None, "", (), [], {}):
            return one_line(to_jsonable_python(value))
    return ""


def _noted_examples(annotation: Any) -> list[Any]:
    """The examples inside an annotation such as `Annotated[int, Field(examples=[10])] | None`."""
    first, *rest = get_args(annotation) or (None,)
    if get_origin(annotation) is Annotated:
        return [value for note in rest if isinstance(note, FieldInfo) for value in note.examples or []]
    if get_origin(annotation) in (Union, UnionType):
        return [value for part in (first, *rest) for value in _noted_examples(part)]
    return []


def _from_annotation(annotation: Any) -> str:
    for option in alternatives(annotation):
        if is_section(option):
            return _from_section(option)
        if choices := literals(option):
            return one_line(choices[0])
    return ""


def _from_section(section: type[Config]) -> str:
    """The first key of the section that has an example."""
    for key, field in section.keys().items():
        if text := _from_field(field) or _from_annotation(field.annotation):
            return f"{{{key}: {text}}}"
    return ""
