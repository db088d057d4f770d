"""Docstrings of this house, which are plain text, as reStructuredText for Sphinx.

A docstring here reads well in `help`: single backticks are code, an indented block is an equation
or code, and signs such as | and * stand for themselves. Google's sections are left to napoleon.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from sphinx.application import Sphinx

from extensions.public_names import role

__all__ = ["convert", "setup"]

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Warns|Yields):$")
_CODE = re.compile(r"`([^`]+)`")
# Signs that reStructuredText obeys, and an underscore at the end of a word.
_OBEYED = re.compile(r"[\\*|]|(?<=\w)_(?!\w)")


def convert(lines: list[str], link: Callable[[str], str]) -> list[str]:
    r"""Return the lines of a docstring as reStructuredText.

    Args:
        lines: the docstring's, without its own indentation.
        link: returns the markup of what stands between backticks.

    >>> print(*convert(["Keep |x|:", "", "    y = x", "", "Args:", "    x: `y`."], "<{}>".format))
    Keep \|x\|:  .. code-block:: text      y = x  Args:     x: <y>.
    """
    converted: list[str] = []
    for paragraph, in_section in _paragraphs(lines):
        first = paragraph[0]
        if first.lstrip().startswith(">>>"):
            converted += paragraph
        elif first.startswith("    ") and not in_section:
            text = [line[4:] for line in paragraph]
            converted += [f".. code-block:: {_language(text)}", "", *paragraph]
        else:
            converted += _escape("\n".join(paragraph), link).splitlines()
        converted.append("")
    return converted[:-1]


def _paragraphs(lines: list[str]) -> Iterator[tuple[list[str], bool]]:
    """Yield paragraphs, and whether they are within a section; blocks of code go together."""
    paragraph: list[str] = []
    in_section = False
    for line in [*lines, ""]:
        if line.strip():
            if _SECTION.match(line):
                in_section = True
            elif not line.startswith(" ") and not paragraph:
                in_section = False
            paragraph.append(line)
        elif paragraph:
            yield paragraph, in_section
            paragraph = []


def _language(lines: list[str]) -> str:
    """Return "python" for lines that are calls of this package, "text" for equations."""
    try:
        ast.parse("\n".join(lines))
    except SyntaxError:
        return "text"
    return "python" if re.search(r"lpprop|import |class |def |^\w+\(", "\n".join(lines)) else "text"


def _escape(text: str, link: Callable[[str], str]) -> str:
    """Escape what reStructuredText would obey, but for the code between backticks."""
    parts = _CODE.split(text)
    parts[1::2] = [link(" ".join(part.split())) for part in parts[1::2]]
    parts[::2] = [_OBEYED.sub(r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Convert each docstring before napoleon reads its sections."""

    def process(*event: Any) -> None:
        lines = event[-1]
        lines[:] = convert(lines, role)

    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True}
