"""One self-contained HTML page: its model, and the only place that writes it.

A command describes what it found as a `Page` of a few kinds of blocks, and `write_page` makes the file: no
network, light and dark, phone and wide screen, sortable tables, print. Nothing is marked up by the caller; every
text is plain and is escaped here. Drawings come from `ptft.report.figures`, small pictures from `ptft.report.pixels`.

::

    page = Page(
        title="compare clothes",
        verdict="Pretraining helped: +5.6 points",
        lead="95 % interval +1.2 to +10.0, 12 draws of the labels.",
        facts=[Fact("random weights", "67.9 %", "64.9 to 70.9, n = 12 × 600")],
        notes=["The learning rate was chosen on validation."],
        sections=[
            Section("Draws", [
                Prose("Each draw was given to both arms."),
                Table(["draw", "random", "pretrained"], [[count(0), percent(0.657), percent(0.745)]]),
                picture(figure, alt="Accuracy against labels.", caption="Bands are 95 % intervals."),
                Fold("All 24 runs", [Table([...], [...])]),
            ]),
            Section("To do it again", [Code("ptft compare target.yaml --from ckpt.pt")]),
        ],
    )
    write_page(path, page)

Pictures that follow each other stand side by side where there is room.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ptft.storage import check_replaceable, write_text_durably

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_SIGNATURE = b'<meta name="generator" content="ptft">'


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is not plain text.

    Attributes:
        text: what is read.
        value: what it is sorted by; None sorts last, whichever the direction.
        shade: tint of the background in [0, 1]; None for no tint.
    """

    text: str
    value: float | None = None
    shade: float | None = None


def count(number: int) -> Cell:
    """`10,000`."""
    return Cell(f"{number:,}", number)


def percent(share: float | None) -> Cell:
    """A share in [0, 1] as `91.2 %`; a dash for None."""
    return Cell("–", None) if share is None else Cell(f"{100 * share:.1f} %", share)


@dataclass(frozen=True)
class Prose:
    """A paragraph; `soft` for what explains, in a lower voice."""

    kind: ClassVar[str] = "prose"
    text: str
    soft: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under columns; on a narrow screen it scrolls within itself, its first column stays.

    Attributes:
        columns: headings.
        rows: as many cells each; a `str` is text, a `Cell` a number (right-aligned) or anything with a sort value.
        caption: what it shows; read out with the table, and shown below it.
        sortable: whether a click on a heading sorts.
        is_matrix: small cells, upright headings: for a confusion matrix.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""
    sortable: bool = True
    is_matrix: bool = False

    @property
    def numeric(self) -> list[bool]:
        """Whether a column holds numbers, for each."""
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.columns)
        return [any(isinstance(cell, Cell) and cell.value is not None for cell in column) for column in columns]


@dataclass(frozen=True)
class Picture:
    """A drawing or an image.

    Attributes:
        source: inline SVG (`<svg …`, whose colours follow the scheme), or a data URL.
        alt: what it shows, for who cannot see it.
        caption: below it.
        pixelated: a small image shown larger: keep its pixels square.
    """

    kind: ClassVar[str] = "picture"
    source: str
    alt: str
    caption: str = ""
    pixelated: bool = False


@dataclass(frozen=True)
class Gallery:
    """Small pictures with their captions, as many in a row as fit; `is_wide` for those twice as wide as high."""

    kind: ClassVar[str] = "gallery"
    pictures: Sequence[Picture]
    is_wide: bool = False


@dataclass(frozen=True)
class Code:
    """Text to copy: a command, a config."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Node:
    """A node of a `Graph`.

    Attributes:
        name: unique in the graph.
        lines: its text; the first is its heading.
        parents: names of nodes above it.
        is_data: data rather than a run: drawn lighter.
    """

    name: str
    lines: Sequence[str]
    parents: Sequence[str] = ()
    is_data: bool = False


@dataclass(frozen=True)
class Graph:
    """Nodes in one column, parents above children; `alt` says the same in words."""

    kind: ClassVar[str] = "graph"
    nodes: Sequence[Node]
    alt: str


@dataclass(frozen=True)
class Fold:
    """Blocks that are shown on a click."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: Sequence["Block"]


Block = Prose | Table | Picture | Gallery | Code | Graph | Fold


@dataclass(frozen=True)
class Section:
    """A heading with blocks below."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """Its name in a link."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Fact:
    """One number with its name, and what must be known to judge it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: what it is about, for example `finetune bees`.
        verdict: the answer, in a few words.
        lead: the sentence below: interval, n, what it is compared with.
        facts: the handful of numbers that matter.
        notes: what a reader must know before trusting the verdict.
        sections: the evidence.
    """

    title: str
    verdict: str
    facts: Sequence[Fact]
    sections: Sequence[Section]
    lead: str = ""
    notes: Sequence[str] = field(default=())


def left_out(bad_images: Sequence[str]) -> list[Section]:
    """The section about images that could not be read, one line each; none where all could."""
    told = Fold("Why each could not be read", [Code("\n".join(bad_images))])
    return [Section("Images left out", [told])] if bad_images else []


def write_page(path: Path, page: Page) -> None:
    """Replaces the file at `path`.

    Raises:
        StorageError: it cannot be written.
    """
    from ptft.report.graph import draw_graph

    html = _template().render(page=page, draw_graph=draw_graph, grouped=_grouped)
    # Names of files and classes may hold what no encoding carries.
    write_text_durably(path, html.encode("utf-8", "replace").decode())


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["tidy"] = _tidy
    return environment.from_string(files("ptft.report").joinpath("page.html").read_text("utf-8"))


def check_page(path: Path, flag: str) -> None:
    """Checks that a page may be written there, see `check_replaceable`."""
    check_replaceable(path, flag, "a page of ptft", lambda start: _SIGNATURE in start, "report.html")


def _grouped(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """Runs of blocks of one kind: neighbouring pictures share a row."""
    return [(kind, list(group)) for kind, group in groupby(blocks, key=lambda block: block.kind)]


def _tidy(text: str) -> "Markup":
    """The text with a number and its unit, or its name, kept on one line, and what stands in backticks as code."""
    from markupsafe import Markup, escape

    kept = re.sub(r"(?<=\d) (?=%|×)|(?<=×) (?=\d)|(?<=\bn) (?==)|(?<=\bn =) (?=\d)|(?<=[<>]) (?=\d)", "\u00a0", text)
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(kept))))
