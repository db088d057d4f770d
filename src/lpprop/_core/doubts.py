"""Warnings about many images, counted by what they say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Doubt", "gather_doubts", "join_doubts"]


class Doubt(NamedTuple):
    """What was warned of, on how many images, and the first of them."""

    message: str
    images: int
    first: str


def gather_doubts(warned: Iterable[tuple[str, Sequence[str]]]) -> list[Doubt]:
    """Count the images of each warning; warnings that differ in numbers and names are one.

    Args:
        warned: for each image its name and the messages.

    >>> gather_doubts([("a", []), ("b", ["b has 3 patches"]), ("c", ["c has 5 patches"])])
    [Doubt(message='b has 3 patches', images=2, first='b')]
    """
    return join_doubts(
        Doubt(message, 1, image) for image, messages in warned for message in messages
    )


def join_doubts(doubts: Iterable[Doubt]) -> list[Doubt]:
    """Join what was counted over several parts of the images, in their order.

    >>> join_doubts([Doubt("b has 3 patches", 2, "b"), Doubt("d has 7 patches", 1, "d")])
    [Doubt(message='b has 3 patches', images=3, first='b')]
    """
    found: dict[str, Doubt] = {}
    for doubt in doubts:
        plain = re.sub(rf"(?<!\w){re.escape(doubt.first)}(?!\w)", "#", doubt.message)
        kind = re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", plain)
        known = found.get(kind, doubt._replace(images=0))
        found[kind] = known._replace(images=known.images + doubt.images)
    return list(found.values())
