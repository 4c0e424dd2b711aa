"""The strict frozen model that every component's config derives from."""

from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Strict, ValidationInfo
from pydantic.fields import FieldInfo

Names = Annotated[tuple[str, ...], Strict(False)]
"""A YAML list of strings, kept as a tuple (a strict tuple would refuse the list that YAML gives)."""


def different(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names; raises ValueError when one is there twice."""
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"named more than once: {', '.join(repeated)}")
    return names


def is_stored(info: ValidationInfo) -> bool:
    """Whether a config is that of a run that has begun, as ptft wrote it down: what was valid then goes on."""
    return bool(info.context and info.context.get("stored"))


class MisfitError(ValueError):
    """A value that does not go with another section's, found by a check of both.

    Args:
        key: of the value, dotted, seen from the config that checks.
        message: what does not fit, and what to do.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


class Config(BaseModel):
    """A frozen section of a config: unknown keys refused, no conversion between types, no NaN.

    A *component* is a Config with a literal `name` and a `build` method; the discriminated union of such
    models is the registry. The first line of its docstring is what `ptft list` prints.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
        serialize_by_alias=True,
    )

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Key as the user writes it -> field; they differ where a key, such as `from`, is a word of Python."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def summaries(cls) -> dict[str, str]:
        """One line for each name this component answers to."""
        names = get_args(cls.model_fields["name"].annotation)
        line = (cls.__doc__ or "").strip().splitlines()[0]
        return dict.fromkeys(names, line)
