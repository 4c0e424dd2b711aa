"""A small graph as inline SVG: nodes in one column, as on a phone, edges that skip nodes along the left side."""

from collections.abc import Sequence
from textwrap import wrap

from markupsafe import Markup, escape

from ptft.report.page import Graph, Node

# In user units, which are CSS pixels at full size.
_WIDTH = 340
_GUTTER = 28
_LINE = 20
_PADDING = 12
_GAP = 26
_LETTERS = 32
_MAX_LINES = 3


def draw_graph(graph: Graph) -> Markup:
    """The graph as an `<svg>` whose colours follow the page."""
    tops = _tops(graph.nodes)
    place = {node.name: index for index, node in enumerate(graph.nodes)}
    edges = [
        _edge(graph.nodes, tops, place[parent], index)
        for index, node in enumerate(graph.nodes)
        for parent in node.parents
    ]
    boxes = [_box(node, top) for node, top in zip(graph.nodes, tops, strict=True)]
    height = tops[-1] + _height(graph.nodes[-1]) + 1
    return Markup('<svg class="graph" role="img" aria-label="{}" viewBox="0 0 {} {}">{}{}</svg>').format(
        graph.alt, _WIDTH, height, Markup("").join(edges), Markup("").join(boxes)
    )


def _height(node: Node) -> int:
    return 2 * _PADDING + _LINE * len(_lines(node))


def _tops(nodes: Sequence[Node]) -> list[int]:
    tops, below = [], 1
    for node in nodes:
        tops.append(below)
        below += _height(node) + _GAP
    return tops


def _box(node: Node, top: int) -> Markup:
    texts = [
        Markup('<text x="{}" y="{}" class="{}">{}</text>').format(
            _GUTTER + _PADDING, top + _PADDING + 15 + _LINE * index, kind, line
        )
        for index, (kind, line) in enumerate(_lines(node))
    ]
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="{}"/>{}').format(
        "data" if node.is_data else "run",
        _GUTTER,
        top,
        _WIDTH - _GUTTER - 1,
        _height(node),
        8,
        Markup("").join(texts),
    )


def _lines(node: Node) -> list[tuple[str, str]]:
    """Lines that fit the box, each with its class."""
    lines = []
    for index, text in enumerate(node.lines):
        kept = wrap(text, _LETTERS, max_lines=_MAX_LINES, placeholder=" …")
        lines += [("" if index else "head", line) for line in kept]
    return lines


def _edge(nodes: Sequence[Node], tops: Sequence[int], parent: int, child: int) -> Markup:
    """An arrow: straight down to the next node, around those between to any other."""
    if child == parent + 1:
        x = (_GUTTER + _WIDTH) // 2
        start, end = tops[parent] + _height(nodes[parent]), tops[child]
        return _arrow(f"M{x} {start}V{end - 2}", f"M{x - 5} {end - 8}L{x} {end - 2}L{x + 5} {end - 8}")
    start, end = tops[parent] + _height(nodes[parent]) // 2, tops[child] + _height(nodes[child]) // 2
    line = f"M{_GUTTER} {start}H16Q8 {start} 8 {start + 8}V{end - 8}Q8 {end} 16 {end}H{_GUTTER - 2}"
    tip = _GUTTER - 2
    return _arrow(line, f"M{tip - 6} {end - 5}L{tip} {end}L{tip - 6} {end + 5}")


def _arrow(line: str, head: str) -> Markup:
    return Markup('<path d="{}"/><path d="{}"/>').format(escape(line), escape(head))
