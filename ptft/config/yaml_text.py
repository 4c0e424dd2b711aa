"""Plain values -> YAML that our own loader, and any other YAML reader, reads back as the same values."""

import sys
from typing import Any

import yaml

from ptft.config.scalars import is_string


class _Writer(yaml.SafeDumper):
    """Block sections, lists of scalars on one line, no aliases, quotes where a reader could be mistaken."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _FlowWriter(_Writer):
    """The same with everything on one line."""


def _text(writer: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # PyYAML itself quotes what YAML 1.1 would misread, such as no and 012; 1e-3 it would not.
    style = None if is_string(value) else "'"
    if not value.isprintable():
        style = '"'
    return writer.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _list(writer: yaml.SafeDumper, value: list[Any]) -> yaml.SequenceNode:
    flat = not any(isinstance(item, list | dict) for item in value)
    return writer.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flat)


def _flow_list(writer: yaml.SafeDumper, value: list[Any]) -> yaml.SequenceNode:
    return writer.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Writer.add_representer(str, _text)
_Writer.add_representer(list, _list)
_FlowWriter.add_representer(str, _text)
_FlowWriter.add_representer(list, _flow_list)


def to_yaml(value: Any) -> str:
    """YAML of dicts, lists and scalars, keys in the order of the dicts."""
    text: str = yaml.dump(
        value,
        Dumper=_Writer,
        default_flow_style=False,
        sort_keys=False,
        allow_unicode=True,
        width=sys.maxsize,
    )
    return text


def one_line(value: Any) -> str:
    """The same as `to_yaml`, on one line: what stands after `key: `."""
    text: str = yaml.dump([value], Dumper=_FlowWriter, default_flow_style=True, allow_unicode=True, width=sys.maxsize)
    return text.strip()[1:-1]
