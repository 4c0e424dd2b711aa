from typing import Annotated, Literal

from pydantic import Field

from ptft.config.base import Config
from ptft.config.components import members, names, summaries


class Small(Config):
    """A small network.

    More about it.
    """

    name: Literal["small"] = "small"


class Zoo(Config):
    """A network of the zoo."""

    name: Literal["zoo18", "zoo50"]


Union = Annotated[Small | Zoo, Field(discriminator="name")]


def test_union_knows_its_members_and_names_in_order() -> None:
    assert members(Union) == (Small, Zoo)
    assert names(Union) == ["small", "zoo18", "zoo50"]


def test_union_knows_one_line_for_each_name() -> None:
    assert summaries(Union) == {
        "small": "A small network.",
        "zoo18": "A network of the zoo.",
        "zoo50": "A network of the zoo.",
    }


def test_optional_union_and_single_component_are_unions_too() -> None:
    assert members(Union | None) == (Small, Zoo)
    assert names(Small) == ["small"]
