"""The loops of the pixel graph, each made for a number of features, or of vectors of classes.

Classes lie next to each other in memory, in groups of up to three vectors, and pixels are taken in
blocks of four. A block keeps its sums, four pixels of three vectors, in registers while its
neighbours pass: a neighbour is read once for the four pixels, a weight once for all classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lpprop.kernels.llvm.builder import (
    BLOCK,
    LANES,
    Array,
    Code,
    Doubles,
    Index,
    Indices,
    Scalar,
    Value,
    Variable,
)
from lpprop.kernels.llvm.jit import Kernel

__all__ = [
    "RAISED",
    "Grid",
    "advance_loop",
    "fill_loop",
    "lower_residual_loop",
    "multiply_loop",
    "pack_loop",
    "unpack_loop",
]

#: Weights are multiplied by 2 to this power, which normalisation cancels. So a pixel unlike all
#: others keeps weights far below the smallest float32.
RAISED = 60
# Up to so many features per pixel stay in registers, or near them.
_REGISTERS = 8


class Grid(NamedTuple):
    """The sizes of an image and its border, as values of the code."""

    width: Value
    columns: Value  # the width, rounded up to whole vectors
    pitch: Value  # the columns with a border of rx on either side
    height: Value
    ry: Value
    rx: Value

    @classmethod
    def of(cls, shape: Indices) -> Grid:
        """Read them from an argument."""
        return cls(*shape.unpack(len(cls._fields)))

    @property
    def neighbours(self) -> Value:
        """Number of places in the square around a pixel, its own included."""
        return (self.ry * 2 + 1) * (self.rx * 2 + 1)


def _fill_vector(
    code: Code, grid: Grid, features: int, squared: bool, guide: Array, decay: Array,
    weights: Array, slope: Scalar, y: Value, x: Value, place: Value, inside: Array | None = None,
) -> Value:  # fmt: skip
    """Write the weights of a vector of pixels, two blocks; return their sums inside the image."""
    plane = (grid.height + grid.ry * 2) * grid.pitch
    centre = (y + grid.ry) * grid.pitch + x + grid.rx
    few = features <= _REGISTERS
    own = [guide.load(centre + plane * f) for f in (range(features) if few else ())]
    slopes = code.splat(slope)
    degree = code.variable(code.vector(0.0))
    with code.loop(0, grid.ry * 2 + 1) as row, code.loop(0, grid.rx * 2 + 1) as column:
        near = (y + row) * grid.pitch + x + column
        square = code.vector(0.0)
        for f, value in enumerate(own):
            difference = value - guide.load(near + plane * f)
            square = code.fma(difference, difference, square)
        if not few:
            total = code.variable(square)
            with code.loop(0, features) as feature:
                there = plane * feature
                difference = guide.load(there + centre) - guide.load(there + near)
                total.set(code.fma(difference, difference, total.get()))
            square = total.get()
        neighbour = row * (grid.rx * 2 + 1) + column
        distance = square if squared else code.sqrt(square)
        exponent = code.fma(distance, slopes, decay.splat(neighbour))
        weight = code.exp2(exponent, RAISED)
        for block in range(LANES // BLOCK):
            target = place + (grid.neighbours * block + neighbour) * BLOCK
            weights.store(target, code.part(weight, block * BLOCK, BLOCK))
        if inside is not None:
            degree.set(code.fma(weight, inside.load(near), degree.get()))
    return degree.get()


def fill_loop(features: int, squared: bool = False) -> Kernel:
    """Make the weights and degrees of pixels with so many features."""

    def fill(
        code: Code, shape: Indices, guide: Array, decay: Array, inside: Array, weights: Array,
        degree: Array, slope: Scalar, row: Index, top: Index, end: Index,
    ) -> None:  # fmt: skip
        # `row` is the distance between rows of weights; 0 where nobody keeps them.
        grid = Grid.of(shape)
        with code.loop(top, end) as y, code.loop(0, grid.columns, LANES) as x:
            place = y * row + x * grid.neighbours
            sums = _fill_vector(
                code, grid, features, squared, guide, decay, weights, slope, y, x, place, inside
            )
            degree.store(y * grid.columns + x, sums)

    return fill


def multiply_loop(vectors: int, features: int, squared: bool = False) -> Kernel:
    """Multiply by weights that are stored, or that are computed from so many features."""
    lanes = vectors * LANES

    def multiply(
        code: Code, shape: Indices, guide: Array, decay: Array, weights: Array, q: Array,
        scale: Array, root: Array, product: Array, dots: Doubles, slope: Scalar, own: Scalar,
        alpha: Scalar, top: Index, end: Index, left: Index, right: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        own_p, strength = code.splat(own), code.splat(alpha)
        with code.loop(top, end) as y:
            sums = [code.variable(code.vector(0.0)) for _ in range(vectors)]
            with code.loop(left, right, LANES) as start:
                place = (y * grid.columns + start) * grid.neighbours
                if features:
                    place = code.index(0)
                    _fill_vector(
                        code, grid, features, squared, guide, decay, weights, slope, y, start, place
                    )
                with code.loop(0, LANES, BLOCK) as within:
                    x = start + within
                    block = place + within * grid.neighbours
                    tile = _gather(code, grid, weights, q, y, x, block, vectors)
                    for n, k in np.ndindex(BLOCK, vectors):
                        pixel = y * grid.columns + x + n
                        centre = ((y + grid.ry) * grid.pitch + x + grid.rx + n) * lanes
                        p = q.load(centre + k * LANES) * root.splat(pixel)
                        pull = tile[n * vectors + k].get() * scale.splat(pixel) * strength
                        value = own_p * p - pull
                        product.store(pixel * lanes + k * LANES, value)
                        sums[k].set(code.fma(p, value, sums[k].get()))
            for k in range(vectors):
                dots.add(code.index(k * LANES), sums[k].get())

    return multiply


def _gather(
    code: Code, grid: Grid, weights: Array, q: Array, y: Value, x: Value, block: Value,
    vectors: int,
) -> list[Variable]:  # fmt: skip
    """Sum over the neighbours of a block of pixels by their weights."""
    tile = [code.variable(code.vector(0.0)) for _ in range(BLOCK * vectors)]
    side = grid.rx * 2 + 1

    def add_neighbour(weight: Value, place: Value, pixels: range) -> None:
        """Add one neighbour to the sums of those pixels."""
        near = [q.load(place + k * LANES) for k in range(vectors)]
        for n in pixels:
            # Seen from pixel n, it stands n columns further left.
            factor = weights.splat(weight - n * (BLOCK - 1))
            for k in range(vectors):
                total = tile[n * vectors + k]
                total.set(code.fma(factor, near[k], total.get()))

    with code.loop(0, grid.ry * 2 + 1) as row:
        weight = block + row * side * BLOCK
        place = ((y + row) * grid.pitch + x) * (vectors * LANES)
        # The first and last columns are neighbours of some of the pixels only.
        for column in range(BLOCK - 1):
            add_neighbour(
                weight + column * BLOCK, place + column * vectors * LANES, range(column + 1)
            )
        with code.loop(BLOCK - 1, side) as middle:
            add_neighbour(weight + middle * BLOCK, place + middle * (vectors * LANES), range(BLOCK))
        for column in range(BLOCK - 1):
            last = side + column
            add_neighbour(
                weight + last * BLOCK, place + last * (vectors * LANES), range(column + 1, BLOCK)
            )
    return tile


def lower_residual_loop(vectors: int) -> Kernel:
    """Take step product off r, and sum r . r."""

    def lower_residual(
        code: Code, shape: Indices, r: Array, product: Array, step: Array, dots: Doubles,
        top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        steps = [step.load(code.index(k * LANES)) for k in range(vectors)]
        with code.loop(top, end) as y:
            sums = [code.variable(code.vector(0.0)) for _ in range(vectors)]
            with code.loop(0, grid.columns) as x:
                for k in range(vectors):
                    place = (y * grid.columns + x) * (vectors * LANES) + k * LANES
                    value = r.load(place) - steps[k] * product.load(place)
                    r.store(place, value)
                    sums[k].set(code.fma(value, value, sums[k].get()))
            for k in range(vectors):
                dots.add(code.index(k * LANES), sums[k].get())

    return lower_residual


def advance_loop(vectors: int) -> Kernel:
    """Add step p to x, then set p to r + momentum p."""

    def advance(
        code: Code, shape: Indices, q: Array, r: Array, x: Array, scale: Array, root: Array,
        step: Array, momentum: Array, top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        steps, momenta = (
            [factors.load(code.index(k * LANES)) for k in range(vectors)]
            for factors in (step, momentum)
        )
        with code.loop(top, end) as y, code.loop(0, grid.columns) as column:
            pixel = y * grid.columns + column
            padded = (y + grid.ry) * grid.pitch + column + grid.rx
            for k in range(vectors):
                place = pixel * (vectors * LANES) + k * LANES
                target = padded * (vectors * LANES) + k * LANES
                p = q.load(target) * root.splat(pixel)
                x.store(place, code.fma(steps[k], p, x.load(place)))
                p = code.fma(momenta[k], p, r.load(place))
                q.store(target, p * scale.splat(pixel))

    return advance


def pack_loop(vectors: int) -> Kernel:
    """Write scores (C, N) as r and as the first q, classes next to each other."""

    def pack(
        code: Code, shape: Indices, scores: Array, factor: Array, r: Array, scale: Array, q: Array,
        count: Index, top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        with code.loop(top, end) as y, code.loop(0, grid.width) as x, code.loop(0, count) as c:
            source = (c * grid.height + y) * grid.width + x
            value = scores.load(source, 1) * factor.load(c, 1)
            pixel = y * grid.columns + x
            r.store(pixel * (vectors * LANES) + c, value)
            padded = (y + grid.ry) * grid.pitch + x + grid.rx
            q.store(padded * (vectors * LANES) + c, value * scale.load(pixel, 1))

    return pack


def unpack_loop(vectors: int) -> Kernel:
    """Write a vector as (C, N), pixels next to each other."""

    def unpack(
        code: Code, shape: Indices, x: Array, factor: Array, value: Array, count: Index,
        top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        with code.loop(top, end) as y, code.loop(0, grid.width) as column, code.loop(0, count) as c:
            source = (y * grid.columns + column) * (vectors * LANES) + c
            target = (c * grid.height + y) * grid.width + column
            value.store(target, x.load(source, 1) * factor.load(c, 1))

    return unpack
