"""Mermaid's flowcharts drawn at build time: GitHub draws the same text, the site needs no script.

Of Mermaid's language this knows `flowchart TD` and lines such as `a & b --> c`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise, product
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["Flowchart", "draw", "read_edges", "setup"]

# Pixels of a box, between boxes, and between rows.
_HEIGHT, _GAP, _ROW = 32, 18, 66
_LETTER, _PADDING = 9, 24
_SWEEPS = 24

Edge = tuple[str, str]


def read_edges(lines: Sequence[str]) -> list[Edge]:
    """Return the arrows of a flowchart.

    Raises:
        ValueError: a line of another kind.

    >>> read_edges(["flowchart TD", "    a & b --> c"])
    [('a', 'c'), ('b', 'c')]
    """
    edges: list[Edge] = []
    for line in lines[1:]:
        if not re.fullmatch(r"\s*\w+( & \w+)* --> \w+( & \w+)*\s*", line):
            raise ValueError(f"not an arrow between names: {line!r}")
        above, below = ([name.strip() for name in end.split("&")] for end in line.split("-->"))
        edges += product(above, below)
    return edges


def draw(edges: Sequence[Edge]) -> str:
    """Draw arrows between boxes, each box above those that it points to, as an SVG."""
    rows, routes = _arrange(edges)
    middles = _place(rows, routes)
    boxes = {name for edge in edges for name in edge}
    width = max(x + _width(node) / 2 for node, x in middles.items())
    height = _ROW * (len(rows) - 1) + _HEIGHT
    y = {node: _ROW * depth + _HEIGHT / 2 for depth, row in enumerate(rows) for node in row}
    parts = [
        f'<svg class="flowchart" viewBox="-1 -1 {width + 2:.0f} {height + 2}" '
        f'width="{width + 2:.0f}" role="img" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape('; '.join(f'{a} to {b}' for a, b in edges))}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>',
    ]
    for route in routes:
        points = [(middles[node], y[node]) for node in route]
        (x, start), (_, end) = points[0], points[-1]
        path = f"M{x:.1f} {start + _HEIGHT / 2:.1f}"
        for index, ((x1, y1), (x2, y2)) in enumerate(pairwise(points)):
            y1 += _HEIGHT / 2 * (index == 0)
            y2 -= _HEIGHT / 2 * (y2 == end)
            half = (y1 + y2) / 2
            path += f"C{x1:.1f} {half:.1f} {x2:.1f} {half:.1f} {x2:.1f} {y2:.1f}"
        parts.append(f'<path class="arrow" d="{path}" marker-end="url(#tip)"/>')
    for name in sorted(boxes, key=lambda name: (y[name], middles[name])):
        x, wide = middles[name], _width(name)
        parts.append(
            f'<rect x="{x - wide / 2:.1f}" y="{y[name] - _HEIGHT / 2:.1f}" width="{wide}" '
            f'height="{_HEIGHT}" rx="6"/><text x="{x:.1f}" y="{y[name]:.1f}">{escape(name)}</text>'
        )
    return "".join([*parts, "</svg>"])


def _arrange(edges: Sequence[Edge]) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows from top to bottom, and each arrow as the places that it passes."""
    below: dict[str, list[str]] = {name: [] for edge in edges for name in edge}
    for a, b in edges:
        below[a].append(b)
    level: dict[str, int] = {}

    def find(name: str) -> int:
        if name not in level:
            level[name] = 1 + max((find(other) for other in below[name]), default=-1)
        return level[name]

    top = max(map(find, below))
    rows: list[list[str]] = [[] for _ in range(top + 1)]
    for name in below:
        rows[top - level[name]].append(name)
    routes = []
    for a, b in edges:
        route = [a]
        for depth in range(level[a] - 1, level[b], -1):
            route.append(f"{a} {b} {depth}")  # a place in a row where the arrow passes
            rows[top - depth].append(route[-1])
        routes.append([*route, b])
    return rows, routes


def _place(rows: list[list[str]], routes: Sequence[Sequence[str]]) -> dict[str, float]:
    """Order each row so that few arrows cross, and return the middle of each place."""
    near: dict[str, list[str]] = {node: [] for row in rows for node in row}
    for route in routes:
        for a, b in pairwise(route):
            near[a].append(b)
            near[b].append(a)
    x = {node: 100.0 * index for row in rows for index, node in enumerate(row)}
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = {node: sum(x[other] for other in near[node]) / len(near[node]) for node in row}
            row.sort(key=lambda node: wanted[node])
            x |= _spread(row, wanted)
    left = min(x[node] - _width(node) / 2 for node in x)
    return {node: middle - left for node, middle in x.items()}


def _spread(row: Sequence[str], wanted: Mapping[str, float]) -> dict[str, float]:
    """Keep a row's order and gaps, and move it as a whole to where it is wanted."""
    x: dict[str, float] = {}
    right = float("-inf")
    for node in row:
        x[node] = max(wanted[node], right + _width(node) / 2)
        right = x[node] + _width(node) / 2 + _GAP
    shift = sum(wanted[node] - x[node] for node in row) / len(row)
    return {node: middle + shift for node, middle in x.items()}


def _width(node: str) -> int:
    return 8 if " " in node else _LETTER * len(node) + _PADDING


class Flowchart(SphinxDirective):
    """The directive `mermaid`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Draw the content."""
        try:
            drawn = draw(read_edges(list(self.content)))
        except ValueError as error:
            raise self.error(str(error)) from error
        return [nodes.raw("", f'<div class="flowchart">{drawn}</div>', format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("mermaid", Flowchart)
    return {"parallel_read_safe": True}
