"""Write numbers and tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["markdown_table", "percent", "printable"]


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column aligned to the left, the others to the right."""
    rules = [":--", *("--:" for _ in head[1:])]
    rows = [[cell.replace("|", "\\|") for cell in line] for line in (head, rules, *lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def percent(share: float | None, digits: int = 2) -> str:
    """Write a share in percent; None and NaN become a dash."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.{digits}f}"


def printable(text: str) -> str:
    r"""Return a text that every UTF-8 stream takes, and that no terminal obeys.

    >>> print(printable(chr(27) + "[2J" + chr(0xDCE9)))
    \x1b[2J\udce9
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
