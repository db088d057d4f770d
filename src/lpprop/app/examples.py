"""Photographs to start with: those that scikit-image ships, so that they work offline."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lpprop.app.picture import Picture

__all__ = ["EXAMPLES", "Example", "available_examples", "load_example"]


class Example(NamedTuple):
    """A photograph, and a good start on it.

    Attributes:
        name: what a user reads.
        file: its name in scikit-image's folder of data.
        words: classes as the page's text field takes them, of words that ImageNet has.
        classes: names of the classes that are clicked.
        points: a row, a column and a class per click.
    """

    name: str
    file: str
    words: str
    classes: tuple[str, ...]
    points: tuple[tuple[int, int, int], ...]


# ImageNet has neither people nor walls: what stands in for them was chosen by looking at results.
EXAMPLES = (
    Example(
        "astronaut",
        "astronaut.png",
        "space shuttle\nflag\nastronaut = bulletproof vest; groom",
        ("astronaut", "around it", "flag"),
        ((120, 220, 0), (400, 250, 0), (200, 420, 1), (60, 60, 2), (30, 330, 1), (470, 420, 0)),
    ),
    Example(
        "coffee",
        "coffee.png",
        "cup = coffee mug; espresso; cup\nspoon\ntable = dining table; desk",
        ("cup", "table"),
        ((170, 260, 0), (330, 330, 0), (290, 430, 0), (40, 60, 1), (380, 560, 1), (200, 20, 1)),
    ),
    Example(
        "cat",
        "chelsea.png",
        "cat\nblanket = quilt; pillow; velvet; wool",
        ("cat", "around it"),
        ((60, 215, 0), (150, 190, 0), (240, 330, 0), (40, 40, 1), (270, 60, 1), (60, 425, 1)),
    ),
    Example(
        "motorcycle",
        "motorcycle_left.png",
        "motorcycle\nshelves = bookcase; library; toyshop\nfloor = doormat",
        ("motorcycle", "around it"),
        ((250, 350, 0), (300, 200, 0), (360, 580, 0), (40, 100, 1), (450, 700, 1), (470, 150, 1)),
    ),
)


def available_examples() -> tuple[Example, ...]:
    """Return the examples whose files are installed.

    >>> [example.name for example in available_examples()][:2]
    ['astronaut', 'coffee']
    """
    folder = _folder()
    if folder is None:
        return ()
    return tuple(example for example in EXAMPLES if (folder / example.file).is_file())


@lru_cache
def load_example(name: str) -> Picture:
    """Return an example's picture: one for all users, so that its features are there already.

    >>> load_example("cat").size
    (300, 451)
    """
    example = next(example for example in available_examples() if example.name == name)
    folder = _folder()
    assert folder is not None
    with Image.open(folder / example.file) as image:
        return Picture(image.convert("RGB"))


def _folder() -> Path | None:
    found = importlib.util.find_spec("skimage")
    return Path(found.origin).parent / "data" if found and found.origin else None
