"""A config file, the command line and a model -> one frozen config; and back to YAML."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ptft.config.base import Config
from ptft.config.document import Document, read
from ptft.config.faults import translate
from ptft.config.overrides import override
from ptft.config.wording import printable
from ptft.config.yaml_text import to_yaml
from ptft.errors import ConfigError, Fault

T = TypeVar("T", bound=Config)


def load(source: Path | Document | None, model: type[T], overrides: Sequence[str] = (), *, stored: bool = False) -> T:
    """Reads and checks a config.

    Args:
        source: the YAML file, or what was read from it; None for an empty config, which messages call `command line`.
        model: what the config must be.
        overrides: the `key=value` of every `--set`, in order; they win over the file.
        stored: whether it is the `config.yaml` of a run that has begun: what is refused for new ones alone is taken.

    Raises:
        ConfigError: with all faults of the file and of the overrides at once.
    """
    document = read(source) if isinstance(source, Path) else source or Document({}, {}, "command line")
    document = override(document, overrides)
    found = list(document.faults)
    try:
        config = model.model_validate(document.data, context={"stored": stored})
    except ValidationError as error:
        found += _new(translate(error, model, document), found)
    if found:
        raise ConfigError(document.source, found)
    return config


def dump(config: Config, header: str = "") -> str:
    """The config as YAML with every default written out, keys in the order of the fields.

    `load` reads an equal config from it.

    Args:
        config: any config.
        header: lines to put above it as a comment.
    """
    lines = (printable(f"# {line}".rstrip(), limit=len(line) + 2) for line in header.splitlines())
    comment = "".join(f"{line}\n" for line in lines)
    return comment + to_yaml(_name_first(config.model_dump(mode="json")))


def schema(model: type[Config]) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a config, for editors; docstrings are its descriptions."""
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    _demand_names(found, found.get("$defs", {}))
    return found


def _demand_names(node: Any, definitions: dict[str, Any]) -> None:
    """Makes `name` a required key of every component but the one that a section without a name stands for.

    Without it an editor takes `{width: 28}` for any of several models.
    """
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _demand_names(part, definitions)
    if isinstance(node, dict) and "discriminator" in node:
        usual = node.get("default")
        for name, place in node["discriminator"]["mapping"].items():
            component = definitions[place.rpartition("/")[2]]
            if not (isinstance(usual, dict) and usual.get("name") == name):
                component["required"] = sorted({*component.get("required", ()), "name"})


def _name_first(section: dict[str, Any]) -> dict[str, Any]:
    """The name of a component stands above its keys, also where a base class declares some of them."""
    ordered = sorted(section.items(), key=lambda item: item[0] != "name")
    return {key: _name_first(value) if isinstance(value, dict) else value for key, value in ordered}


def _new(faults: list[Fault], known: list[Fault]) -> list[Fault]:
    """Faults of keys that have none yet: a value that could not be read has no second fault."""
    taken = {(fault.line, fault.place, fault.key) for fault in known}
    return [fault for fault in faults if (fault.line, fault.place, fault.key) not in taken]
