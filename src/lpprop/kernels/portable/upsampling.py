"""Joint bilateral upsampling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lpprop.kernels.interface import Columns, Rows

__all__ = ["upsample"]

# Size of the weights made at a time, which then stay in a CPU's cache. Measured on two cores.
_BLOCK_BYTES = 4 * 2**20


def upsample(
    x: Float[Tensor, "C h w"],
    points: Float[Tensor, "3 h w"],
    pixels: Float[Tensor, "3 y x"],
    rows: Rows,
    columns: Columns,
) -> Float[Tensor, "C y x"]:
    """Average the scores of the grid points around each pixel, some rows of cells at a time.

    The pixels of a cell, those nearest to one grid point, share their grid points. So the weighted
    sums of a cell are one product of its weights (pixels x points) and the scores (points x
    classes).
    """
    down, across = _cells_along(*rows, x.shape[1]), _cells_along(*columns, x.shape[2])
    (n, m), k = across.pixels.shape, across.points.shape[1] * down.points.shape[1]
    height = down.pixels.shape[1]
    step = max(1, _BLOCK_BYTES // (n * m * height * k * x.element_size()))
    parts = []
    for start in range(0, len(down.pixels), step):
        part = slice(start, start + step)
        scores = _gather(x, down.points[part], across.points)
        near = _gather(points, down.points[part], across.points)
        own = _gather(pixels, down.pixels[part], across.pixels)
        spatial = (
            down.exponents[part][:, None, :, None, :, None]
            + across.exponents[None, :, None, :, None, :]
        )
        exponent = spatial.flatten(4).flatten(2, 3)
        for a, b in zip(own, near, strict=True):  # one channel at a time saves memory
            difference = a[..., :, None] - b[..., None, :]
            exponent = torch.addcmul(exponent, difference, difference, value=-1)
        # softmax subtracts the maximum first, so the weights cannot all underflow.
        mixed = exponent.softmax(-1) @ scores.movedim(0, -1)
        tiles = mixed.unflatten(2, (-1, m)).permute(4, 0, 2, 1, 3).flatten(1, 2).flatten(2)
        first, end = height * start, height * (start + tiles.shape[1] // height)
        places = down.places[(down.places >= first) & (down.places < end)] - first
        parts.append(tiles[:, places[:, None], across.places])
    return torch.cat(parts, 1)


class _Cells(NamedTuple):
    """Pixels along one axis in n cells of up to m pixels, which have the same nearest grid point.

    Attributes:
        pixels: the pixels of each cell; a short cell repeats its last.
        places: the index of each pixel in the flattened cells.
        points: the grid points around each cell; those outside the grid repeat the edge.
        exponents: the exponent of each pixel and point; minus infinity outside the grid.
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


def _gather(
    planes: Float[Tensor, "F y x"], rows: Int[Tensor, "n a"], columns: Int[Tensor, "m b"]
) -> Float[Tensor, "F n m a*b"]:
    """Gather the values of each cell: (planes, cells down, cells across, members of the cell)."""
    return planes[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3)
