"""A comparison as text, Markdown, CSV and HTML."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image

    from lpprop.comparison.result import Comparison, Row

__all__ = ["csv_text", "html", "markdown", "text"]


def _three_digits(value: float) -> str:
    """Write three significant digits, or all before the point."""
    places = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{min(max(places, 0), 6)}f}"


def _tenths(value: float) -> str:
    return f"{value:.1f}"


class _Column(NamedTuple):
    """A figure of each row, as people read it."""

    heading: str
    of: Callable[[Row], float | None]
    factor: float
    written: Callable[[float], str]
    best_is_bold: bool = False


_COLUMNS = (
    _Column("time (ms)", lambda row: row.seconds, 1000, _three_digits),
    _Column("memory (MiB)", lambda row: row.memory, 2**-20, _three_digits),
    _Column("changed (%)", lambda row: row.changed, 100, _tenths),
    _Column("mIoU (%)", lambda row: row.miou, 100, _tenths, best_is_bold=True),
    _Column("Boundary IoU (%)", lambda row: row.boundary_iou, 100, _tenths, best_is_bold=True),
)


class _Table(NamedTuple):
    """Headings; a line of cells for each method that ran, with the best ones; what was skipped."""

    headings: list[str]
    lines: list[list[str]]
    bold: set[tuple[int, int]]
    skipped: list[tuple[str, str]]


def _table(comparison: Comparison) -> _Table:
    ran = [row for row in comparison.rows if not row.skipped]
    lines, bold = [[row.method] for row in ran], set()
    headings = ["method"]
    for column in _COLUMNS:
        values = [column.of(row) for row in ran]
        known = [value for value in values if value is not None]
        if not known:
            continue
        for number, value in enumerate(values):
            written = "–" if value is None else column.written(value * column.factor)
            lines[number].append(written)
            if column.best_is_bold and len(ran) > 1 and value == max(known):
                bold.add((number, len(headings)))
        headings.append(column.heading)
    skipped = [(row.method, row.skipped) for row in comparison.rows if row.skipped]
    return _Table(headings, lines, bold, skipped)


def _agreement(comparison: Comparison) -> list[list[str]]:
    """Write the agreement in percent, with a heading line; nothing for a single method."""
    names = list(comparison.labels)
    if len(names) < 2:
        return []
    shares = [[_tenths(100 * share) for share in line] for line in comparison.agreement.tolist()]
    return [
        ["agreement (%)", *names],
        *([name, *line] for name, line in zip(names, shares, strict=True)),
    ]


def text(comparison: Comparison) -> str:
    """Align the table in columns; a line for each skipped method below."""
    table = _table(comparison)
    lines = [[_line(cell) for cell in line] for line in (table.headings, *table.lines)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*aligned, *(f"{name}: skipped. {why}" for name, why in table.skipped)])


def markdown(comparison: Comparison) -> str:
    """Write the table and the agreement, with skipped methods below."""
    table = _table(comparison)
    lines = [
        [f"**{cell}**" if (y, x) in table.bold else _escaped(cell) for x, cell in enumerate(line)]
        for y, line in enumerate(table.lines)
    ]
    parts = [_markdown_table([table.headings, *lines])]
    if table.skipped:
        parts.append(
            "\n".join(f"- {_escaped(n)}: skipped. {_escaped(w)}" for n, w in table.skipped)
        )
    agreement = _agreement(comparison)
    if agreement:
        parts.append(_markdown_table([[_escaped(cell) for cell in line] for line in agreement]))
    return "\n\n".join(parts) + "\n"


def _markdown_table(lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _line(cell: str) -> str:
    return " ".join(cell.split())


def _escaped(cell: str) -> str:
    """Keep what Markdown or HTML in it would take for its own from being that."""
    # An underscore between letters or digits means nothing.
    return re.sub(r"[\\`*\[\]|<>]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", _line(cell))


def csv_text(comparison: Comparison) -> str:
    """Write a line for each method, with its agreement with each of those that ran."""
    names = list(comparison.labels)
    shares = dict(zip(names, comparison.agreement.tolist(), strict=True))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    fields = ("method", "seconds", "memory_bytes", "changed", "miou", "boundary_iou", "skipped")
    writer.writerow([*fields, *(f"agreement with {name}" for name in names)])
    for row in comparison.rows:
        values = [*row, *shares.get(row.method, [None] * len(names))]
        writer.writerow(f"{x:.6g}" if isinstance(x, float) else x for x in values)
    return file.getvalue()


# Borders and shades are translucent, and the ink is the page's: both themes suit them.
_CELL = "padding:.25em .75em;border-bottom:1px solid rgba(128,128,128,.35);"
_LEFT, _RIGHT = _CELL + "text-align:left;", _CELL + "text-align:right;"
_TABLE = "border-collapse:collapse;color:inherit;background:transparent;margin:.5em 0;"


def html(comparison: Comparison, figure: Image) -> str:
    """Set the table above the figure; the agreement unfolds."""
    table = _table(comparison)
    body = [
        _html_line(line, bold={x for y, x in table.bold if y == number})
        for number, line in enumerate(table.lines)
    ]
    body += [
        f'<tr style="opacity:.7;background:transparent"><td style="{_LEFT}">{escape(name)}</td>'
        f'<td style="{_LEFT}" colspan="{len(table.headings) - 1}">skipped: {escape(why)}</td></tr>'
        for name, why in table.skipped
    ]
    parts = [_html_table(table.headings, body)]
    agreement = _agreement(comparison)
    if agreement:
        lines = [_html_line(line) for line in agreement[1:]]
        parts.append(
            '<details><summary style="cursor:pointer">agreement of the labels</summary>'
            f"{_html_table(agreement[0], lines)}</details>"
        )
    file = io.BytesIO()
    figure.save(file, format="PNG")
    data = base64.b64encode(file.getvalue()).decode()
    alt = "labels of " + ", ".join(comparison.labels)
    parts.append(
        f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}" '
        'style="max-width:100%;border-radius:4px">'
    )
    return f'<div style="overflow-x:auto">{"".join(parts)}</div>'


def _html_table(headings: Sequence[str], lines: Sequence[str]) -> str:
    head = "".join(
        f'<th scope="col" style="{_RIGHT if place else _LEFT}">{escape(heading)}</th>'
        for place, heading in enumerate(headings)
    )
    return (
        f'<table style="{_TABLE}"><thead><tr style="background:transparent">{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _html_line(cells: Sequence[str], bold: set[int] | None = None) -> str:
    name, *values = cells
    written = [f'<th scope="row" style="{_LEFT}font-weight:normal">{escape(name)}</th>']
    for place, value in enumerate(values, start=1):
        weight = "font-weight:bold;" if bold and place in bold else ""
        written.append(f'<td style="{_RIGHT}{weight}">{escape(value)}</td>')
    return f'<tr style="background:transparent">{"".join(written)}</tr>'
