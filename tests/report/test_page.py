"""The page model: what is written is what was given, escaped, in headings of order."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from ptft.report import figures
from ptft.report.figures import along_steps, blank, curve
from ptft.report.page import Cell, Code, Fact, Fold, Gallery, Graph, Node, Page, Prose, Section, Table, count, percent
from ptft.report.page import write_page as write
from ptft.report.pixels import thumbnail, with_heat

NASTY = "<script>alert('x')</script> & \"bees\" \N{SNOWMAN} \udc80"


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def written(tmp_path: Path, *blocks: object, **more: object) -> Elements:
    page = Page("title", "verdict", [Fact("a", "1")], [Section("One", blocks)], **more)  # type: ignore[arg-type]
    write(tmp_path / "page.html", page)
    return Elements((tmp_path / "page.html").read_text("utf-8"))


def test_every_text_is_escaped_wherever_it_stands(tmp_path: Path) -> None:
    image = thumbnail(torch.zeros(3, 8, 8, dtype=torch.uint8), NASTY, NASTY)
    figure, axes = figures.blank()
    figures.curve(axes, [0, 1], [0, 1], 0, NASTY.replace("\udc80", ""))
    figures.legend_below(axes, 1)
    found = written(
        tmp_path,
        Prose(NASTY),
        Table([NASTY, "n"], [[NASTY, Cell(NASTY, 1.0, 0.5)], ["b", count(2)]], NASTY),
        Gallery([image]),
        figures.picture(figure, NASTY, NASTY),
        Code(NASTY),
        Graph([Node(NASTY, [NASTY, NASTY])], NASTY),
        Fold(NASTY, [Prose(NASTY)]),
        lead=NASTY,
        notes=[NASTY],
    )
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert found.text.count("<script>alert('x')") >= 14
    assert [attributes["alt"] for tag, attributes in found.tags if tag == "img"] == [NASTY.replace("\udc80", "?")]


def test_headings_are_in_order_and_every_picture_has_a_text_alternative(tmp_path: Path) -> None:
    figure, _ = figures.blank()
    found = written(tmp_path, figures.picture(figure, "a drawing"), Graph([Node("a", ["a"])], "a graph"))
    assert [tag for tag, _ in found.tags if re.fullmatch(r"h\d", tag)] == ["h1", "h2"]
    labels = [attributes.get("aria-label") for tag, attributes in found.tags if attributes.get("role") == "img"]
    assert labels == ["a drawing", "a graph"]


def test_numbers_carry_what_they_sort_by_and_dashes_nothing(tmp_path: Path) -> None:
    found = written(
        tmp_path, Table(["class", "n", "share"], [["a", count(1200), percent(0.5)], ["b", count(3), percent(None)]])
    )
    cells = [attributes for tag, attributes in found.tags if tag == "td"]
    assert [cell.get("data-value") for cell in cells] == [None, "1200", "0.5", None, "3", None]
    assert [cell.get("class") == "number" for cell in cells] == [False, True, True] * 2
    assert "1,200" in found.text
    assert "50.0 %" in found.text


def test_drawings_have_no_colour_of_their_own_and_no_font(tmp_path: Path) -> None:
    """A colour that is no variable of the page would stay as it is in the dark."""
    figure, axes = figures.blank()
    for index in range(8):
        figures.curve(axes, [0, 1], [index, index], index, str(index), ([0, 0], [1, 1]))
    figures.legend_below(axes, 2)
    source = figures.picture(figure, "").source
    assert not re.findall(r"#[0-9a-f]{6}\b", source)
    assert "font-family" not in source
    axes.plot([0, 1], [0, 1], color="#123456")
    assert re.findall(r"#[0-9a-f]{6}\b", figures.picture(figure, "").source), "the check can fail"


def test_twenty_four_classes_have_styles_of_their_own() -> None:
    assert len({figures.style_of(index) for index in range(24)}) == 24


def luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_stand_out_in_both_schemes(tmp_path: Path, scheme: int) -> None:
    """WCAG AA: 4.5 for text, 3 for what is drawn."""
    written(tmp_path)
    block = re.findall(r":root \{(.*?)\}", (tmp_path / "page.html").read_text("utf-8"), re.S)[scheme]
    colours = {
        name: value if len(value) == 7 else "#" + "".join(2 * c for c in value[1:])
        for name, value in re.findall(r"--(\w+): (#\w+)", block)
    }
    for ground in ("paper", "card"):
        assert min(contrast(colours[name], colours[ground]) for name in ("ink", "soft", "accent")) >= 4.5
        assert min(contrast(colours[f"c{number}"], colours[ground]) for number in range(1, 7)) >= 3
    tint = [int(number) for number in re.findall(r"--tint: (\d+) (\d+) (\d+)", block)[0]]
    most = float(re.findall(r"--most: ([\d.]+)", block)[0])
    ground = [int(colours["paper"][place : place + 2], 16) for place in (1, 3, 5)]
    darkest = [round(most * over + (1 - most) * under) for over, under in zip(tint, ground, strict=True)]
    assert contrast(colours["ink"], "#" + "".join(f"{number:02x}" for number in darkest)) >= 4.5
    assert contrast("#ffffff", "#ffffff") == 1


def test_a_heat_map_is_beside_the_image_and_brightest_where_the_heat_is() -> None:
    image = torch.full((1, 8, 8), 100, dtype=torch.uint8)
    heat = torch.zeros(2, 2)
    heat[0, 1] = 1
    both = with_heat(image, heat)
    assert both.shape == (3, 8, 16)
    assert both[:, :, :8].equal(image.expand(3, -1, -1))
    painted = both[:, :, 8:].float().mean(dim=0)
    assert painted[:4, 4:].mean() > 1.5 * painted[4:, :4].mean()


def test_steps_are_whole_numbers_also_where_they_are_few() -> None:
    _, axes = blank()
    curve(axes, [1.0, 2.0], [0.0, 1.0], 0, "training")
    assert not all(tick.is_integer() for tick in axes.get_xticks()), "matplotlib's own"
    along_steps(axes, "loss")
    assert all(tick.is_integer() for tick in axes.get_xticks())


def test_commands_in_backticks_are_code_and_nothing_else_becomes_markup(tmp_path: Path) -> None:
    written(tmp_path, Prose("Try `ptft leak`."), Prose("A class `<b>` of `one & two` and a lone ` mark."))
    html = (tmp_path / "page.html").read_text("utf-8")
    assert "Try <code>ptft leak</code>." in html
    assert "A class <code>&lt;b&gt;</code> of <code>one &amp; two</code> and a lone ` mark." in html
