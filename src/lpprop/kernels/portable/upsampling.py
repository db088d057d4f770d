"""Joint bilateral upsampling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Columns", "Rows", "upsample"]

# The weights of a block of pixels; it stays in the cache of a CPU. Measured on two cores.
_BLOCK_BYTES = 4 * 2**20

#: Of each pixel row, the grid row at its centre and the exponents of the grid rows around it.
Rows = tuple[Int[Tensor, " y"], Float[Tensor, "y a"]]
#: The same of each pixel column.
Columns = tuple[Int[Tensor, " x"], Float[Tensor, "x b"]]


def upsample(
    x: Float[Tensor, "C h w"],
    points: Float[Tensor, "3 h w"],
    pixels: Float[Tensor, "3 y x"],
    rows: Rows,
    columns: Columns,
) -> Float[Tensor, "C y x"]:
    """Average the scores of the grid points around each pixel, some rows of cells at a time.

    All pixels of a cell share their grid points, so the weighted sums of a cell are one product
    of its weights (pixels x points) and the scores there (points x classes).

    Args:
        x: scores at the grid points.
        points: colours of the grid points, as fractions of sigma_range.
        pixels: colours of the pixels, likewise.
        rows: of each pixel row, the grid row at the centre and the exponents of the k grid rows
            around it, minus infinity where there is none; k is odd.
        columns: the same of each pixel column.
    """
    down, across = _cells_along(*rows, x.shape[1]), _cells_along(*columns, x.shape[2])
    (n, m), k = across.pixels.shape, across.points.shape[1] * down.points.shape[1]
    height = down.pixels.shape[1]
    step = max(1, _BLOCK_BYTES // (n * m * height * k * x.element_size()))
    parts = []
    for start in range(0, len(down.pixels), step):
        part = slice(start, start + step)
        scores = _gathered(x, down.points[part], across.points)
        near = _gathered(points, down.points[part], across.points)
        own = _gathered(pixels, down.pixels[part], across.pixels)
        spatial = (
            down.exponents[part][:, None, :, None, :, None]
            + across.exponents[None, :, None, :, None, :]
        )
        exponent = spatial.flatten(4).flatten(2, 3)
        for a, b in zip(own, near, strict=True):  # a channel at a time: nothing larger than this
            difference = a[..., :, None] - b[..., None, :]
            exponent = torch.addcmul(exponent, difference, difference, value=-1)
        # The softmax divides by the sum, and by the largest weight first: none is lost.
        mixed = exponent.softmax(-1) @ scores.movedim(0, -1)
        tiles = mixed.unflatten(2, (-1, m)).permute(4, 0, 2, 1, 3).flatten(1, 2).flatten(2)
        first, end = height * start, height * (start + tiles.shape[1] // height)
        places = down.places[(down.places >= first) & (down.places < end)] - first
        parts.append(tiles[:, places[:, None], across.places])
    return torch.cat(parts, 1)


class _Cells(NamedTuple):
    """Pixels along one axis in groups that have the same centre, n of up to m pixels.

    Attributes:
        pixels: of each group; short groups repeat their last.
        places: where each pixel stands among the groups.
        points: the grid points around each group; those outside the grid repeat the edge.
        exponents: of each; minus infinity outside the grid.
    """

    pixels: Int[Tensor, "n m"]
    places: Int[Tensor, " pixels"]
    points: Int[Tensor, "n k"]
    exponents: Float[Tensor, "n m k"]


def _cells_along(
    centres: Int[Tensor, " pixels"], exponents: Float[Tensor, "pixels k"], points: int
) -> _Cells:
    cells, group, counts = centres.unique_consecutive(return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    within = torch.arange(int(counts.max()), device=centres.device)
    members = first[:, None] + within.minimum(counts[:, None] - 1)
    reach = exponents.shape[1] // 2
    around = cells[:, None] + torch.arange(-reach, reach + 1, device=centres.device)
    places = group * len(within) + torch.arange(len(centres), device=centres.device) - first[group]
    return _Cells(members, places, around.clamp(0, points - 1), exponents[members])


def _gathered(
    planes: Float[Tensor, "F y x"], rows: Int[Tensor, "n a"], columns: Int[Tensor, "m b"]
) -> Float[Tensor, "F n m a*b"]:
    """Gather what belongs to each cell: cells down, cells across, members of the cell."""
    return planes[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3)
