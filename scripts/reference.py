"""Writes the config reference of README.md, between its two marks, from the configs themselves.

Run `python scripts/reference.py` after changing a config; a test holds the README to it.
"""

from collections.abc import Set
from pathlib import Path
from typing import Any

from ptft.config.base import Config
from ptft.config.components import alternatives, is_section, members, own_names
from ptft.config.yaml_text import one_line
from ptft.settings import CompareConfig

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"


def reference() -> str:
    """The reference as Markdown: one table for each section, one for each component."""
    lines = ["#### top level", *_table(CompareConfig, only={"seed", "device", "out", "tracking"})]
    for key, field in CompareConfig.model_fields.items():
        components = members(field.annotation)
        sections = components or [part for part in alternatives(field.annotation) if is_section(part)]
        common = _common(components)
        if common:
            lines += ["", f"#### {key}, whatever its name", *_table(components[0], only=common)]
        for section in sections:
            lines += ["", f"#### {_title(key, section)}", _first_paragraph(section), *_table(section, without=common)]
    return "\n".join(lines)


def _common(components: tuple[Any, ...]) -> set[str]:
    """Keys that every component of a union has with the same meaning."""
    if len(components) < 2:
        return set()
    shared = set.intersection(*(set(component.model_fields) for component in components)) - {"name"}
    first = components[0].model_fields
    return {
        key
        for key in shared
        if all(
            (component.model_fields[key].description, component.model_fields[key].default)
            == (first[key].description, first[key].default)
            for component in components
        )
    }


def _title(key: str, section: Any) -> str:
    names = own_names(section)
    title = f"{key}: {{name: {names[0]}}}" if names else f"{key}:"
    return title + (f" and {len(names) - 1} more names, `ptft list {key}s`" if len(names) > 1 else "")


def _table(section: Any, only: set[str] | None = None, without: Set[str] = frozenset()) -> list[str]:
    lines = ["", "| key | default | meaning |", "|---|---|---|"]
    for key, field in section.keys().items():
        if key == "name" or key in without or (only is not None and key not in only):
            continue
        if isinstance(field.default, Config) and only is None:
            lines += [row.replace("| `", f"| `{key}.", 1) for row in _table(type(field.default))[3:]]
            continue
        default = "required" if field.is_required() else f"`{_plain(field.get_default(call_default_factory=True))}`"
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        lines.append(f"| `{key}` | {default} | {meaning} |")
    return lines if len(lines) > 3 else []


def _plain(value: Any) -> str:
    return one_line(value.model_dump(mode="json") if hasattr(value, "model_dump") else _listed(value))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _first_paragraph(section: Any) -> str:
    return " ".join((section.__doc__ or "").strip().split("\n\n")[0].split())


def insert(text: str) -> str:
    """README text with the reference put between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(insert(README.read_text("utf-8")), "utf-8")
