"""Drawings for a page: matplotlib figures as inline SVG whose colours follow the page's scheme.

Draw with the colours of this module (`COLOURS`, `INK`, `GRID`) and no others: `picture` turns each into a CSS
variable of the page, which has one value for light and one for dark. The colours are told apart with colour
blindness too (after Okabe & Ito 2008); where more than six are needed, `style_of` varies the marker as well.
"""

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from ptft.report.page import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#00875f", "#b8568b", "#9a6b00", "#4f3fb0")
"""Of lines and points, in order."""
INK = "#59616e"
"""Of axes and their text."""
GRID = "#e9ebee"
"""Of lines that help to read."""

_VARIABLES = {colour: f"var(--c{number})" for number, colour in enumerate(COLOURS, start=1)}
_VARIABLES |= {INK: "var(--soft)", GRID: "var(--grid)"}
_MARKERS = "os^DvP*X"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ptft",
    "font.size": 11,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "ytick.left": False,
    "text.color": INK,
    "text.parse_math": False,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def blank(width: float = 4.2, height: float = 3.0) -> "tuple[Figure, Axes]":
    """A figure with one pair of axes in the page's style.

    Args:
        width, height: in inches; up to 4.2 wide, text is large enough on a phone.
    """
    # Figure without pyplot: no window system, no global state.
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasSVG(figure)  # its text is measured as it is drawn
        return figure, figure.subplots()


def style_of(index: int) -> tuple[str, str]:
    """Colour and marker of series or class number `index`; 24 pairs differ."""
    turn = index // len(COLOURS)
    return COLOURS[index % len(COLOURS)], _MARKERS[(index + turn) % len(_MARKERS)]


def curve(axes: "Axes", x: list[float], y: list[float], index: int, label: str, band: Any = None) -> None:
    """A line in the colour of series `index`, with a band around it where `band` gives (low, high) lists."""
    colour = style_of(index)[0]
    marker = "o" if len(x) <= 40 else ""
    axes.plot(x, y, color=colour, label=label, marker=marker, markersize=3.5)
    if band is not None:
        axes.fill_between(x, *band, color=colour, alpha=0.18, linewidth=0)


def along_steps(axes: "Axes", ylabel: str) -> None:
    """Names the axes of a curve over steps, which are whole numbers, also where they are few."""
    axes.set(xlabel="step", ylabel=ylabel)
    axes.locator_params(axis="x", integer=True)


def legend_below(axes: "Axes", columns: int) -> None:
    """The legend under the axes, where it covers nothing, however many entries there are."""
    axes.legend(loc="upper left", bbox_to_anchor=(-0.12, -0.21), ncols=columns, frameon=False, labelcolor=INK,
                handletextpad=0.4, columnspacing=1.2, borderpad=0)  # fmt: skip


def picture(figure: "Figure", alt: str, caption: str = "") -> Picture:
    """The figure as a block of a page. Its text stays text, in the page's font."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with warnings.catch_warnings(), rc_context(_STYLE):
        warnings.filterwarnings("ignore", message=".*missing from font", category=UserWarning)
        # Not "tight": before it measures, it would draw all once in vain.
        box = figure.get_tightbbox().padded(0.03)
        figure.savefig(buffer, format="svg", bbox_inches=box, transparent=True, metadata={"Date": None})
    return Picture(_inline(buffer.getvalue()), alt, caption)


def _head(tag: re.Match[str]) -> str:
    """The opening tag alone. Text grows with a drawing: at 1.35 CSS pixels a point it is as large as that around it."""
    _, _, width, height = re.findall(r"[\d.]+", tag[0].partition("viewBox=")[2])[:4]
    return f'<svg viewBox="0 0 {width} {height}" style="max-width: {1.35 * float(width):.0f}px">'


def _inline(svg: str) -> str:
    """An SVG file as an element of a page: without its head, fixed size, own fonts and unused names."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<svg [^>]*>", _head, svg, count=1)
    svg = re.sub(r' id="[a-z0-9A-Z]+_\d+"', "", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", re.sub(r" *font-family: [^;\"]*;", "", svg))
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg.replace("#000000", "var(--ink)")
