"""Tiles of an image: boxes of pixels, and the window around each that its result depends on."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Box", "Tile", "cut"]


class Box(NamedTuple):
    """A rectangle of pixels; ends are excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and the columns of an image that are in the box."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grow(self, reach: int, size: tuple[int, int]) -> Box:
        """Return the box with a margin on each side, as far as the image goes.

        >>> Box(0, 4, 8, 12).grow(3, (20, 14))
        Box(top=0, bottom=7, left=5, right=14)
        """
        return Box(
            max(self.top - reach, 0), min(self.bottom + reach, size[0]),
            max(self.left - reach, 0), min(self.right + reach, size[1]),
        )  # fmt: skip

    def within(self, outer: Box) -> tuple[slice, slice]:
        """Return the rows and the columns of an outer box that this box takes.

        >>> Box(5, 7, 2, 4).within(Box(3, 9, 0, 9))
        (slice(2, 4, None), slice(2, 4, None))
        """
        moved = Box(
            self.top - outer.top, self.bottom - outer.top,
            self.left - outer.left, self.right - outer.left,
        )  # fmt: skip
        return moved.slices


class Tile(NamedTuple):
    """A part of the result, and the part of the inputs that it is made from.

    Attributes:
        core: pixels whose results are kept; the cores of all tiles make up the image.
        window: the core and a margin as wide as the method reaches, which is thrown away.
    """

    core: Box
    window: Box


def cut(size: tuple[int, int], side: int, reach: int) -> list[Tile]:
    """Cut an image into square tiles, row by row; those at the bottom and right may be smaller.

    Args:
        size: (H, W) of the image.
        side: side of a core in pixels.
        reach: width of the margin around it.

    >>> [tile.core.size for tile in cut((5, 4), 3, reach=1)]
    [(3, 3), (3, 1), (2, 3), (2, 1)]
    """
    height, width = size
    cores = [
        Box(y, min(y + side, height), x, min(x + side, width))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]
    return [Tile(core, core.grow(reach, size)) for core in cores]
