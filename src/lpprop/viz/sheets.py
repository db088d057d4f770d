"""Pages of pictures: cells in rows, each under its title, above a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from lpprop.viz.fonts import Font, legible, load_font

__all__ = ["Cell", "Key", "sheet"]

_INK, _PAPER, _FAINT = (28, 28, 30), (255, 255, 255), (110, 110, 115)

#: A name in the legend, and its colour.
Key = tuple[str, tuple[int, int, int]]


class Cell(NamedTuple):
    """A column of pictures under a title.

    Attributes:
        title: one line, shortened to the cell's width.
        pictures: from top to bottom; None leaves a place empty.
        subtitle: a smaller line below the title, shortened likewise.
    """

    title: str
    pictures: Sequence[Image.Image | None]
    subtitle: str = ""


def sheet(
    cells: Sequence[Cell],
    legend: Sequence[Sequence[Key]],
    note: str = "",
    *,
    columns: int = 4,
    unit: int = 16,
) -> Image.Image:
    """Set cells in rows of nearly equal length, above a legend and a note.

    Args:
        cells: pictures with their titles, in reading order; all pictures have one size.
        legend: groups of names and colours; each group begins a new line.
        note: a line below the legend.
        columns: the most cells per row, >= 1.
        unit: pixels that type sizes and margins are multiples of.

    Returns:
        An RGB image.

    >>> picture = Image.new("RGB", (64, 48))
    >>> sheet([Cell("cat", [picture, picture])], [[("cat", (0, 114, 178))]]).mode
    'RGB'
    """
    title, text, small = (size * unit for size in (2.375, 2.125, 1.625))
    pictures = [picture for cell in cells for picture in cell.pictures if picture is not None]
    column = max(20 * unit, *(picture.width for picture in pictures))
    height = max(picture.height for picture in pictures)
    head = 7 * unit if any(cell.subtitle for cell in cells) else 5 * unit
    row = head + max(len(cell.pictures) for cell in cells) * (height + unit // 2) - unit // 2
    rows = -(-len(cells) // columns)
    across = -(-len(cells) // rows)
    width = across * (column + unit) + 3 * unit
    lines = [
        line for group in legend for line in _legend_lines(group, text, width - 4 * unit, unit)
    ]
    top = row * rows
    page_height = top + 2 * unit + 3 * unit * len(lines) + (3 * unit if note else 0) + unit
    page = Image.new("RGB", (width, page_height), _PAPER)
    draw = ImageDraw.Draw(page)

    for number, cell in enumerate(cells):
        left = 2 * unit + number % across * (column + unit)
        upper = number // across * row
        heads = ((cell.title, 2.5, title, _INK), (cell.subtitle, 5.25, small, _FAINT))
        for head_line, y, size, ink in heads:
            written, font = _shorten(head_line, size, column)
            draw.text((left, upper + y * unit), written, ink, font, anchor="lm")
        for level, picture in enumerate(cell.pictures):
            if picture is not None:
                page.paste(picture, (left, upper + head + level * (height + unit // 2)))

    middle = top + 3.5 * unit
    for line in lines:
        for x, name, font, colour in line:
            swatch = (x, middle - unit, x + 2 * unit, middle + unit)
            draw.rounded_rectangle(swatch, unit / 3, colour)
            draw.text((x + 2.75 * unit, middle), name, _INK, font, anchor="lm")
        middle += 3 * unit
    written, font = _shorten(note, small, width - 4 * unit)
    draw.text((2 * unit, middle), written, _FAINT, font, anchor="lm")
    return page


def _legend_lines(
    keys: Sequence[Key], size: float, width: float, unit: int
) -> list[list[tuple[float, str, Font, tuple[int, int, int]]]]:
    """Break the legend into lines of (left edge, shortened name, font, colour)."""
    lines: list[list[tuple[float, str, Font, tuple[int, int, int]]]] = []
    right = float("inf")
    for label, colour in keys:
        name, font = _shorten(label, size, width - 3 * unit)
        needed = 2.75 * unit + font.getlength(name)
        if right + needed > width:
            lines.append([])
            right = 0.0
        lines[-1].append((2 * unit + right, name, font, colour))
        right += needed + 2.5 * unit
    return lines


def _shorten(text: str, size: float, width: float) -> tuple[str, Font]:
    """Shorten a text to one line that fits the width, and return the font to write it in."""
    text = legible(text)
    font = load_font(text, size)
    if font.getlength(text) <= width:
        return text, font
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "...", font
