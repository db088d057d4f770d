"""A comparison as text, Markdown, CSV and HTML."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from lpprop._core.label_maps import NONE_OF_THESE
from lpprop._core.text import markdown_table, percent
from lpprop.comparison.rows import Row

if TYPE_CHECKING:
    from PIL.Image import Image

    from lpprop.comparison.rows import ComparisonData

__all__ = ["csv_text", "html", "markdown", "text"]


class _Best(str):
    """A cell to be set in bold."""


def _three_digits(value: float) -> str:
    """Write three significant digits, or all before the point."""
    places = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{min(max(places, 0), 6)}f}"


_percent = partial(percent, digits=1)

# Heading; field of a row; how to write it; whether the highest is set in bold.
_COLUMNS: tuple[tuple[str, str, Callable[[float], str], bool], ...] = (
    ("time (ms)", "seconds", lambda seconds: _three_digits(1000 * seconds), False),
    ("memory (MiB)", "memory", lambda size: _three_digits(size / 2**20), False),
    ("changed (%)", "changed", _percent, False),
    ("mIoU (%)", "miou", _percent, True),
    ("Boundary IoU (%)", "boundary_iou", _percent, True),
)


def _table(rows: Sequence[Row]) -> list[list[str]]:
    """Return headings and a line per method that ran, without the columns that nobody fills."""
    ran, marks = [row for row in rows if not row.skipped], _marks(rows)
    columns = [["method", *(_marked_name(row, marks) for row in ran)]]
    for heading, field, write, bold in _COLUMNS:
        values = [getattr(row, field) for row in ran]
        known = [value for value in values if value is not None]
        if known:
            best = max(known) if bold and len(ran) > 1 else None
            written = ["–" if value is None else write(value) for value in values]
            cells = zip(written, values, strict=True)
            columns.append([heading, *(_Best(x) if y == best else x for x, y in cells)])
    return [list(line) for line in zip(*columns, strict=True)]


def _agreement(data: ComparisonData) -> list[list[str]]:
    """Return headings and a line per method, in percent; nothing for a single method."""
    names = list(data.labels)
    lines = zip(names, data.agreement.tolist(), strict=True)
    table = [["agreement (%)", *names], *([name, *map(_percent, line)] for name, line in lines)]
    return table if len(names) > 1 else []


def _skipped(rows: Sequence[Row]) -> list[tuple[str, str]]:
    marks = _marks(rows)
    return [(_marked_name(row, marks), row.skipped) for row in rows if row.skipped]


def _marks(rows: Sequence[Row]) -> dict[str, str]:
    """Number the warnings of the rows; the same text in several rows has one number."""
    every = dict.fromkeys(message for row in rows for message in row.warnings)
    return {message: f"[{number}]" for number, message in enumerate(every, 1)}


def _marked_name(row: Row, marks: Mapping[str, str]) -> str:
    return " ".join([row.method, *(marks[message] for message in row.warnings)])


def _notes(data: ComparisonData) -> list[str]:
    """Return what stands below the table: what gt holds, and the warnings, first the rows' own."""
    facts = []
    if data.gt is not None:
        counted = data.gt != data.ignore_index
        present = len(np.unique(data.gt[counted]))
        classes = len(data.class_names) - (data.class_names[-1] == NONE_OF_THESE)
        facts.append(
            f"gt: {present} of {classes} classes occur, "
            f"{_percent(1 - float(counted.mean()))} % of the pixels are ignored"
        )
    own = [f"{mark} {message}" for message, mark in _marks(data.rows).items()]
    return [*facts, *own, *(f"all rows: {message}" for message in data.warnings)]


def text(data: ComparisonData) -> str:
    """Align the table in columns, above a line per skipped method and per note."""
    table = [list(map(_one_line, line)) for line in _table(data.rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    aligned = (
        [name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])] for name, *cells in table
    )
    skipped = (f"{name}: skipped. {why}" for name, why in _skipped(data.rows))
    notes = map(_one_line, _notes(data))
    return "\n".join([*("  ".join(line).rstrip() for line in aligned), *skipped, *notes])


def markdown(data: ComparisonData) -> str:
    """Write the table, the skipped methods, the notes, and the agreement."""
    below = [f"- {_mark(name)}: skipped. {_mark(why)}" for name, why in _skipped(data.rows)]
    below += [f"- {_mark(note)}" for note in _notes(data)]
    parts = [_marked(_table(data.rows)), "\n".join(below), _marked(_agreement(data))]
    return "\n\n".join(filter(None, parts)) + "\n"


def _marked(table: Sequence[Sequence[str]]) -> str:
    lines = [list(map(_mark, line)) for line in table]
    return markdown_table(lines[0], lines[1:]) if lines else ""


def _mark(cell: str) -> str:
    """Set the best in bold; keep Markdown and HTML from reading marks of theirs in names."""
    # An underscore between letters or digits means nothing; a table escapes its own bars.
    escaped = re.sub(r"[\\`*\[\]<>]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", _one_line(cell))
    return f"**{escaped}**" if isinstance(cell, _Best) else escaped


def _one_line(cell: str) -> str:
    return " ".join(cell.split())


def csv_text(data: ComparisonData) -> str:
    """Write a line per method, with its agreement with each of those that ran."""
    names = list(data.labels)
    shares = dict(zip(names, data.agreement.tolist(), strict=True))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    fields = ["memory_bytes" if name == "memory" else name for name in Row._fields]
    writer.writerow([*fields, *(f"agreement with {name}" for name in names)])
    for row in data.rows:
        own = row._asdict() | {"warnings": " | ".join(row.warnings)}
        values = [*own.values(), *shares.get(row.method, [None] * len(names))]
        writer.writerow(f"{x:.6g}" if isinstance(x, float) else x for x in values)
    return file.getvalue()


# Borders and shades are translucent, and the ink is the page's: both themes suit them.
_TABLE = "border-collapse:collapse;color:inherit;background:transparent;margin:.5em 0;"
# The figure is drawn on white: in a dark theme it is a sheet of paper.
_PICTURE = (
    "max-width:100%;box-sizing:border-box;padding:6px;background:#fff;border-radius:4px;"
    "border:1px solid rgba(128,128,128,.35)"
)
_CELL = "padding:.25em .75em;border-bottom:1px solid rgba(128,128,128,.35);"


def html(data: ComparisonData, figure: Image) -> str:
    """Set the table and its notes above the figure; each part can be folded."""
    agreement = _agreement(data)
    table = _html_table(_table(data.rows), _skipped(data.rows))
    table += "".join(f'<div style="margin:.25em 0">{escape(note)}</div>' for note in _notes(data))
    file = io.BytesIO()
    figure.save(file, format="PNG")
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    alt = escape("labels of " + ", ".join(data.labels))
    height, width = data.start.shape
    count = "1 method" if len(data.rows) == 1 else f"{len(data.rows)} methods"
    parts = [_folding(f"{count} on {height} x {width} pixels", table, unfolded=True)]
    if agreement:
        parts.append(_folding("agreement of the labels", _html_table(agreement), unfolded=False))
    picture = f'<img alt="{alt}" src="{source}" style="{_PICTURE}">'
    parts.append(_folding("figure", picture, unfolded=True))
    return f'<div style="overflow-x:auto">{"".join(parts)}</div>'


def _folding(title: str, inside: str, *, unfolded: bool) -> str:
    summary = f'<summary style="cursor:pointer;margin:.25em 0">{title}</summary>'
    return f"<details{' open' * unfolded}>{summary}{inside}</details>"


def _html_table(table: Sequence[Sequence[str]], skipped: Iterable[tuple[str, str]] = ()) -> str:
    head, *body = (
        "".join(_html_cell(cell, x, y) for x, cell in enumerate(line))
        for y, line in enumerate(table)
    )
    faint = f'style="{_CELL}text-align:left;opacity:.7"'
    body += [
        f"<td {faint}>{escape(name)}</td>"
        f'<td {faint} colspan="{len(table[0]) - 1}">skipped: {escape(why)}</td>'
        for name, why in skipped
    ]
    row = '<tr style="background:transparent">{}</tr>'.format
    lines = "".join(map(row, body))
    return f'<table style="{_TABLE}"><thead>{row(head)}</thead><tbody>{lines}</tbody></table>'


def _html_cell(cell: str, x: int, y: int) -> str:
    tag, scope = ("td", "") if x and y else ("th", f' scope="{"row" if y else "col"}"')
    align = "right" if x else "left"
    weight = "normal" if y and not isinstance(cell, _Best) else "bold"
    style = f"{_CELL}text-align:{align};font-weight:{weight}"
    return f'<{tag}{scope} style="{style}">{escape(cell)}</{tag}>'
