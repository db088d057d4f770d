"""Joint bilateral upsampling on a CPU, in compiled vector code.

The weights of a pixel are computed for eight grid points at a time, and used for all classes, which
lie next to each other in memory. Four pixels are summed at a time, so that no addition waits for
the one before it.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lpprop.kernels.interface import Columns, Rows
from lpprop.kernels.llvm.builder import BLOCK, GROUP, LANES, Array, Code, Index, Indices, Value
from lpprop.kernels.llvm.jit import Kernel, specialise
from lpprop.kernels.llvm.parallel import bands, workers
from lpprop.kernels.memory import zeros

__all__ = ["upsample"]


def upsample(
    x: Float[Tensor, "C h w"],
    points: Float[Tensor, "3 h w"],
    pixels: Float[Tensor, "3 y x"],
    rows: Rows,
    columns: Columns,
) -> Float[Tensor, "C y x"]:
    """Average the scores of the grid points around each pixel, without gradients."""
    dtype, (classes, height, width) = x.detach().numpy().dtype, (len(x), *pixels.shape[1:])
    groups = -(-classes // GROUP)
    vectors = 3 if groups > 1 else -(-classes // LANES)
    lanes = vectors * LANES
    across = -(-width // BLOCK) * BLOCK
    kernel = specialise(_upsample_loop, dtype, vectors)

    # A border around the grid, so that rows of neighbours can be read without bounds checks; its
    # points have exponent minus infinity.
    (ky, kx), (h, w) = (rows[1].shape[1], columns[1].shape[1]), x.shape[1:]
    side = -(-kx // LANES) * LANES
    border = ((ky // 2, ky // 2), (kx // 2, kx // 2 + side - kx))
    near = np.ascontiguousarray(np.pad(points.detach().numpy(), ((0, 0), *border)))
    scores = zeros((groups, h + ky - 1, w + side - 1, lanes), dtype)
    for start in range(0, classes, lanes):
        part = x[start : start + lanes].detach().permute(1, 2, 0).numpy()
        inner = scores[start // lanes, ky // 2 : ky // 2 + h, kx // 2 : kx // 2 + w]
        inner[..., : part.shape[2]] = part

    beyond = ((0, 0), (0, 0), (0, across - width))
    own = np.ascontiguousarray(np.pad(pixels.detach().numpy(), beyond, mode="edge"))
    centres = np.pad(columns[0].numpy(), (0, across - width), mode="edge")
    decay_x = np.full((across, side), -np.inf, dtype)
    decay_x[:width, :kx] = columns[1].detach().numpy()
    decay_x[width:] = decay_x[width - 1]
    decay_y = np.ascontiguousarray(rows[1].detach().numpy())
    first = np.ascontiguousarray(rows[0].numpy())
    sizes = [height, across, h + ky - 1, w + side - 1, ky, kx, side, groups]
    shape = np.array(sizes, np.int64)
    result = np.empty((classes, height, width), dtype)

    def upsample_band(top: int, end: int) -> None:
        weights = zeros((BLOCK, ky * side), dtype)
        wide = np.empty((groups, end - top, across, lanes), dtype)
        kernel(shape, near, own, scores, first, centres, decay_y, decay_x, weights, wide, top, end)
        for start in range(0, classes, lanes):
            part = wide[start // lanes, :, :width, : classes - start]
            result[start : start + lanes, top:end] = part.transpose(2, 0, 1)

    with workers(height * width * ky * side) as for_each:
        for_each(upsample_band, bands(height))
    return torch.from_numpy(result)


def _upsample_loop(vectors: int) -> Kernel:
    lanes = vectors * LANES

    def mix(
        code: Code, shape: Indices, near: Array, own: Array, scores: Array, first: Indices,
        centres: Indices, decay_y: Array, decay_x: Array, weights: Array, result: Array,
        top: Index, end: Index,
    ) -> None:  # fmt: skip
        height, across, rows, pitch, ky, kx, side, groups = shape.unpack(8)

        def weigh(y: Value, x: Value, corner: Value, target: Value) -> Value:
            """Write the weights of a pixel's grid points; return their sum."""
            colours = [own.splat((y + height * c) * across + x) for c in range(3)]
            largest = code.variable(code.vector(-np.inf))
            with code.loop(0, ky) as row, code.loop(0, side, LANES) as column:
                exponent = decay_y.splat(y * ky + row) + decay_x.load(x * side + column)
                for c in range(3):
                    place = corner + (rows * c + row) * pitch + column
                    difference = near.load(place) - colours[c]
                    exponent = exponent - difference * difference
                weights.store(target + row * side + column, exponent)
                largest.set(code.maximum(exponent, largest.get()))
            shift = code.splat(code.reduce(code.maximum, largest.get()))
            total = code.variable(code.vector(0.0))
            with code.loop(0, ky * side, LANES) as k:
                weight = code.exp2((weights.load(target + k) - shift) * float(np.log2(np.e)))
                weights.store(target + k, weight)
                total.set(total.get() + weight)
            return code.splat(code.reduce(Value.__add__, total.get()))

        with code.loop(top, end) as y, code.loop(0, across, BLOCK) as start:
            corners, sums = [], []
            for n in range(BLOCK):
                x = start + n
                corner = first.load(y, 1) * pitch + centres.load(x, 1)
                corners.append(corner)
                sums.append(weigh(y, x, corner, ky * side * n))
            with code.loop(0, groups) as group:
                tile = [code.variable(code.vector(0.0)) for _ in range(BLOCK * vectors)]
                with code.loop(0, ky) as row, code.loop(0, kx) as column:
                    for n in range(BLOCK):
                        weight = weights.splat((ky * n + row) * side + column)
                        place = (corners[n] + (rows * group + row) * pitch + column) * lanes
                        for k in range(vectors):
                            total = tile[n * vectors + k]
                            total.set(code.fma(weight, scores.load(place + k * LANES), total.get()))
                for n in range(BLOCK):
                    pixel = ((end - top) * group + y - top) * across + start + n
                    for k in range(vectors):
                        value = tile[n * vectors + k].get() / sums[n]
                        result.store(pixel * lanes + k * LANES, value)

    return mix
