"""The lines of Python that do the same as what was clicked."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lpprop.compose.presets import find
from lpprop.interaction.clicks import Clicks

__all__ = ["as_code", "code"]

_WIDTH = 88


def code(
    method: str,
    options: Mapping[str, Any] | None = None,
    *,
    clicks: Iterable[tuple[float, float, int]] | None = None,
    size: tuple[int, int] | None = None,
    classes: int | None = None,
    grid: tuple[int, int] | None = None,
    radius: float = 0,
    names: Sequence[str] = (),
    inputs: Collection[str] = ("feats", "image"),
    image: str = "image",
    device: str = "cpu",
    setup: Sequence[str] = (),
) -> str:
    """Write the lines of Python that refine the same start by the same method.

    The lines take `image`, `feats` and, without clicks, `logits` as variables that exist, unless
    `setup` makes them. They leave `scores` and `labels`.

    Args:
        method: a name in `lpprop.presets.METHODS`.
        options: the options that differ from the preset's.
        clicks: `Clicks`, or triples of row, column and label; None if the start is not clicked.
        size: (H, W) of the image that was clicked on.
        classes: how many classes there are, also of those without a click.
        grid: (h, w) of the start, as `lpprop.seed_logits` takes it.
        radius: pixels that each click marks around it, as `lpprop.seed_logits` takes it.
        names: the names of the classes, for a comment.
        inputs: what `lpprop.refine` is given beside the start, from variables of these names.
        image: the variable of the image, if it is not called so.
        device: where the start is made from clicks.
        setup: lines that come first, such as those that read the image.

    Returns:
        The lines, each with a line break at its end.

    Raises:
        InputError: an unknown method, or clicks that `Clicks` refuses.

    >>> print(code("pamr", {"iterations": 3}, clicks=[(3, 4, 0)], size=(48, 64), inputs=["image"]))
    import lpprop
    <BLANKLINE>
    # Row and column of each click in pixels, and the class that it marks.
    points = [(3, 4)]
    marked = [0]
    start = lpprop.seed_logits(points, marked, (48, 64))
    scores = lpprop.refine(start, image=image, method="pamr", iterations=3)
    labels = scores.argmax(1)[0]
    <BLANKLINE>
    """
    lines = ["import lpprop", *setup, ""]
    start = "logits"
    if clicks is not None:
        start = "start"
        keywords = {"classes": classes, "grid": grid, "radius": radius or None}
        lines += _seeds(Clicks(clicks), size, keywords, names)
        lines += [] if device == "cpu" else [f"start = start.to({as_code(device)})"]
    arguments = [start]
    arguments += ["feats"] if "feats" in inputs else []
    if "image" in inputs:
        arguments.append(image if "feats" in inputs else f"image={image}")
    arguments += [f"{name}={name}" for name in inputs if name not in ("feats", "image")]
    arguments += [f'method="{find(method).name}"']
    arguments += [f"{name}={as_code(value)}" for name, value in (options or {}).items()]
    lines += [_wrapped("scores = lpprop.refine(", arguments, ")"), "labels = scores.argmax(1)[0]"]
    return "\n".join(lines) + "\n"


def _seeds(
    clicks: Clicks,
    size: tuple[int, int] | None,
    keywords: Mapping[str, Any],
    names: Sequence[str],
) -> list[str]:
    """Write the lines that make the start from clicks."""
    points = [f"({as_code(click.row)}, {as_code(click.column)})" for click in clicks]
    marked = [str(click.label) for click in clicks]
    # repr keeps a line break in a name from starting a line of code.
    called = ", ".join(f"{number} {name!r}" for number, name in enumerate(names))
    given = ["points", "marked", as_code(size)]
    given += [f"{name}={as_code(value)}" for name, value in keywords.items() if value is not None]
    return [
        "# Row and column of each click in pixels, and the class that it marks.",
        _wrapped("points = [", points, "]"),
        *([f"# Classes: {called}"] if names else []),
        _wrapped("marked = [", marked, "]"),
        _wrapped("start = lpprop.seed_logits(", given, ")"),
    ]


def _wrapped(head: str, items: Sequence[str], tail: str) -> str:
    """Write items in one line, or in as many as they need."""
    inside = ", ".join(items)
    if len(head + inside + tail) <= _WIDTH:
        return head + inside + tail
    filled = textwrap.wrap(inside + ",", _WIDTH - 4, break_long_words=False)
    return "\n".join([head, *(f"    {line}" for line in filled), tail])


def as_code(value: object) -> str:
    r"""Write a value as Python code: a whole number without its point, a text in double quotes.

    >>> as_code(3.0), as_code((1, "a")), as_code("vit-b/16"), as_code('a "b"')
    ('3', "(1, 'a')", '"vit-b/16"', '\'a "b"\'')
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    written = repr(value)
    if isinstance(value, str) and '"' not in written:
        return f'"{written[1:-1]}"'
    return written
