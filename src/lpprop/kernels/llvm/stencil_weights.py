"""The weights of the pixel graph on a CPU, stored, or made anew for each product.

The graph is symmetric, so a pixel stores half of its weights, those of the neighbours after it in
reading order. Columns are taken in strips, which a thread works down while a strip's weights and
scores stay in its cache. A strip stores its weights as (row, neighbour, place), with a margin for
the pixels of the next strips whose neighbours are here.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.memory import available_bytes
from lpprop.kernels.interface import Offsets
from lpprop.kernels.llvm.builder import LANES
from lpprop.kernels.llvm.jit import has_long_registers, specialise
from lpprop.kernels.llvm.parallel import bands, workers
from lpprop.kernels.llvm.stencil_loops import ROWS, add_degrees_loop, fill_loop
from lpprop.kernels.memory import Borrowed

__all__ = ["Weights", "forecast_made"]

# Vectors per row of a strip.
_STRIP = 8
# Rows of a strip whose weights are made at a time, where nobody stores them.
_MADE_ROWS = 64
_LONG_REGISTER = 64  # bytes


def _count_lanes(dtype: np.dtype[Any]) -> int:
    """Return the elements per vector for this machine."""
    return _LONG_REGISTER // dtype.itemsize if has_long_registers() else LANES


def forecast_made(side: int, size: tuple[int, int], itemsize: int) -> int:
    """Estimate the bytes of the weights that all threads make at a time, of side x side squares."""
    most = _MADE_ROWS, _STRIP * _LONG_REGISTER // itemsize
    rows, places = (min(a, b) for a, b in zip(size, most, strict=True))
    tile = (rows + side // 2) * (places + side) * (side * side // 2 + 1) * itemsize
    return torch.get_num_threads() * tile


class Weights:
    """exp(-|f_i - f_j| / tau) times a factor per offset, for pairs of pixels, raised.

    Attributes:
        size: height and width of the image, and the padded number of rows and columns.
        ry, rx: how far the neighbours of a pixel reach.
        turns: from the place of a pixel in its strip to each of its weights.
        places: numbers per neighbour and row of a strip.
        row: numbers per row of a strip.
        kept: (strip, ry + row, neighbour, place); None where each product makes its own.
        degree: (rows, columns) sums over the neighbours inside the image.
    """

    def __init__(
        self,
        f: Float[Tensor, "F H W"],
        offsets: Offsets,
        spatial: tuple[float, ...],
        tau: float,
        *,
        squared: bool,
        stored: int,
    ) -> None:
        """Make the weights; keep them if they take no more than `stored` bytes."""
        features = f.detach().numpy()
        self.dtype = features.dtype
        self.lanes = lanes = _count_lanes(self.dtype)
        height, width = features.shape[1:]
        rows, columns = -(-height // ROWS) * ROWS, -(-width // lanes) * lanes
        self.size = height, width, rows, columns
        # The loops need so many rows of neighbours that all ROWS have one in common.
        self.ry = ry = max((ROWS - 1) // 2, 1, *(dy for dy, _ in offsets), 0)
        self.rx = rx = max((abs(dx) for _, dx in offsets), default=0)
        side = 2 * rx + 1

        count = -(-columns // (_STRIP * lanes))
        strip = -(-columns // (count * lanes)) * lanes
        self.strips = [(x, min(x + strip, columns)) for x in range(0, columns, strip)]
        places = -(-(strip + rx) // lanes) * lanes
        neighbours = ry * side + rx + 1
        self.row = neighbours * places

        # In reading order, the pixel itself first.
        down, right = np.divmod(np.arange(neighbours) + rx, side)
        right = right - rx
        shift = np.maximum(right, 0)
        pitch = rx + self.strips[-1][0] + places + rx
        self._places = np.stack([shift, down * pitch + right], axis=1)
        plane = (rows + 2 * ry) * pitch
        self._shape = np.array([pitch, plane, ry, rx, neighbours, places], np.int64)
        dy, dx = (steps.ravel() for steps in np.mgrid[-ry : ry + 1, -rx : rx + 1])
        # Those before the pixel are stored with the other pixel of the pair.
        self.turns = (
            np.minimum(dy, 0) * self.row + np.abs(dy * side + dx) * places + np.maximum(dx, 0)
        )

        self._decay = np.full(neighbours, -np.inf, self.dtype)
        for (y, x), factor in zip(offsets, spatial, strict=True):
            self._decay[y * side + x] = np.log2(factor) if factor > 0 else -np.inf
        # Weights are powers of 2. The slope stays finite: 0 times infinity is not a number.
        self._slope = -min(math.log2(math.e) / tau, float(np.finfo(self.dtype).max))
        self._guide = np.zeros((len(features), rows + 2 * ry, pitch), self.dtype)
        self._guide[:, ry : ry + height, rx : rx + width] = features

        # Compiled here, since every thread that asks for a kernel at first would compile it.
        kinds = len(features), squared
        self._fill_kernel = specialise(fill_loop, self.dtype, *kinds, lanes=lanes)
        self.kept: Borrowed | None = None
        shape = len(self.strips), ry + rows, neighbours, places
        needed = math.prod(shape) * self.dtype.itemsize
        free = available_bytes(torch.device("cpu"))
        if needed <= stored and (free is None or needed <= free / 2):
            self.kept = Borrowed(shape, self.dtype, clear=False)
            self._fill_kept(self.kept)
        self.degree = self._add_degrees()

    @property
    def work(self) -> int:
        """Multiplications per class of a product."""
        _, _, rows, columns = self.size
        return int(rows * columns * len(self.turns))

    def tiles(self) -> list[tuple[int, int, int]]:
        """List pieces of the image: the first row, the row after the last, the strip."""
        rows = self.size[2] // ROWS
        parts = bands(rows, len(self.strips))
        if self.kept is None:
            count = max(len(parts), -(-rows // (_MADE_ROWS // ROWS)))
            edges = [rows * i // count for i in range(count + 1)]
            parts = list(itertools.pairwise(edges))
        strips = range(len(self.strips))
        return [(top * ROWS, end * ROWS, strip) for strip in strips for top, end in parts]

    def of_tile(self, top: int, end: int, strip: int) -> tuple[Borrowed, int]:
        """Return memory with the weights of a tile, and where its strip's row 0 would begin."""
        if self.kept is not None:
            return self.kept, (strip * (self.ry + self.size[2]) + self.ry) * self.row
        made = Borrowed((self.ry + end - top, self.row), self.dtype, clear=False)
        base = (self.ry - top) * self.row
        self._fill(made, base, top - self.ry, end, strip)
        return made, base

    def _fill(self, target: Borrowed, base: int, top: int, end: int, strip: int) -> None:
        self._fill_kernel(
            self._shape, self._places, self._guide, self._decay, target.array, self._slope, base,
            self.row, top, end, self.strips[strip][0],
        )  # fmt: skip

    def _fill_kept(self, kept: Borrowed) -> None:
        height = self.ry + self.size[2]

        def fill(strip: int, top: int, end: int) -> None:
            base = (strip * height + self.ry) * self.row
            self._fill(kept, base, top - self.ry, end - self.ry, strip)

        count = len(self.strips)
        with workers(self.work) as for_each:
            for_each(fill, [(i, *band) for i in range(count) for band in bands(height, count)])

    def _add_degrees(self) -> NDArray[Any]:
        height, width, rows, columns = self.size
        ry, rx, pitch = self.ry, self.rx, columns + 2 * self.rx
        inside = np.zeros((rows + 2 * ry, pitch), self.dtype)
        inside[ry : ry + height, rx : rx + width] = 1
        degree = np.empty((rows, columns), self.dtype)
        shape = np.array([1, height, width, columns, pitch, ry, rx], np.int64)
        kernel = specialise(add_degrees_loop, self.dtype, lanes=self.lanes)

        def add(top: int, end: int, strip: int) -> None:
            weights, base = self.of_tile(top, end, strip)
            kernel(
                shape, self.turns, weights.array, base, self.row, inside, degree, top, end,
                *self.strips[strip],
            )  # fmt: skip

        with workers(self.work) as for_each:
            for_each(add, self.tiles())
        degree[height:], degree[:, width:] = 0, 0
        return degree
