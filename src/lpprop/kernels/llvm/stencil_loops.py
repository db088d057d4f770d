"""The loops of the pixel graph, each made for a number of vectors of classes, or of features.

Classes lie next to each other in memory, in groups of up to three vectors, and pixels are taken in
blocks of four. A block keeps its sums, four pixels of three vectors, in registers while its
neighbours pass: a neighbour is read once for the four pixels, a weight once for all classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lpprop.kernels.llvm.code import (
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

__all__ = [
    "RAISED",
    "Grid",
    "fill_loop",
    "multiply_loop",
    "pack_loop",
    "turn_loop",
    "unpack_loop",
    "update_loop",
]

#: Weights are multiplied by 2 to this power, which normalised ones do not show: a pixel that is
#: unlike all others then keeps its weights far below the smallest float32.
RAISED = 60
# Features of a vector of pixels that are kept in registers, or near them.
_REGISTERS = 8


class Grid(NamedTuple):
    """Where things lie, as values of the code."""

    width: Value
    columns: Value  # the width, rounded up to whole vectors
    pitch: Value  # the columns with a border of rx on either side
    height: Value
    ry: Value
    rx: Value

    @classmethod
    def of(cls, shape: Indices) -> Grid:
        """Read them."""
        return cls(*shape.unpack(len(cls._fields)))

    @property
    def neighbours(self) -> Value:
        """Columns times rows of the square around a pixel."""
        return (self.ry * 2 + 1) * (self.rx * 2 + 1)


def _fill_vector(
    code: Code, grid: Grid, features: int, guide: Array, decay: Array, weights: Array,
    slope: Scalar, y: Value, x: Value, place: Value, inside: Array | None = None,
) -> Value:  # fmt: skip
    """Write the weights of a vector of pixels, two blocks; sum those of neighbours inside."""
    plane = (grid.height + grid.ry * 2) * grid.pitch
    centre = (y + grid.ry) * grid.pitch + x + grid.rx
    few = features <= _REGISTERS
    own = [guide.load(centre + plane * f) for f in (range(features) if few else ())]
    slopes = code.spread(slope)
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
        exponent = code.fma(code.sqrt(square), slopes, decay.spread(neighbour))
        weight = code.exp2(exponent, RAISED)
        for block in range(LANES // BLOCK):
            target = place + (grid.neighbours * block + neighbour) * BLOCK
            weights.store(target, code.part(weight, block * BLOCK, BLOCK))
        if inside is not None:
            degree.set(code.fma(weight, inside.load(near), degree.get()))
    return degree.get()


def fill_loop(features: int) -> Callable[..., None]:
    """Make weights and degrees from so many features."""

    def fill(
        code: Code, shape: Indices, guide: Array, decay: Array, inside: Array, weights: Array,
        degree: Array, slope: Scalar, row: Index, top: Index, end: Index,
    ) -> None:  # fmt: skip
        """Make weights and degrees; `row` is how far apart the rows of weights lie."""
        grid = Grid.of(shape)
        with code.loop(top, end) as y, code.loop(0, grid.columns, LANES) as x:
            place = y * row + x * grid.neighbours
            sums = _fill_vector(
                code, grid, features, guide, decay, weights, slope, y, x, place, inside
            )
            degree.store(y * grid.columns + x, sums)

    return fill


def multiply_loop(vectors: int, features: int) -> Callable[..., None]:
    """Multiply by weights that are stored, or made anew from so many features."""
    lanes = vectors * LANES

    def multiply(
        code: Code, shape: Indices, guide: Array, decay: Array, weights: Array, q: Array,
        scale: Array, root: Array, product: Array, dots: Doubles, slope: Scalar, own: Scalar,
        alpha: Scalar, top: Index, end: Index, left: Index, right: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        own_p, strength = code.spread(own), code.spread(alpha)
        with code.loop(top, end) as y:
            sums = [code.variable(code.vector(0.0)) for _ in range(vectors)]
            with code.loop(left, right, LANES) as start:
                place = (y * grid.columns + start) * grid.neighbours
                if features:
                    place = code.index(0)
                    _fill_vector(
                        code, grid, features, guide, decay, weights, slope, y, start, place
                    )
                with code.loop(0, LANES, BLOCK) as within:
                    x = start + within
                    block = place + within * grid.neighbours
                    tile = _gather(code, grid, weights, q, y, x, block, vectors)
                    for n, k in np.ndindex(BLOCK, vectors):
                        pixel = y * grid.columns + x + n
                        centre = ((y + grid.ry) * grid.pitch + x + grid.rx + n) * lanes
                        p = q.load(centre + k * LANES) * root.spread(pixel)
                        pull = tile[n * vectors + k].get() * scale.spread(pixel) * strength
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
    """Sum the neighbours of a block of pixels with their weights."""
    tile = [code.variable(code.vector(0.0)) for _ in range(BLOCK * vectors)]
    side = grid.rx * 2 + 1

    def pass_over(weight: Value, place: Value, pixels: range) -> None:
        """Add one neighbour to those pixels; it stands one column nearer to each next one."""
        near = [q.load(place + k * LANES) for k in range(vectors)]
        for n in pixels:
            factor = weights.spread(weight - n * (BLOCK - 1))
            for k in range(vectors):
                total = tile[n * vectors + k]
                total.set(code.fma(factor, near[k], total.get()))

    with code.loop(0, grid.ry * 2 + 1) as row:
        weight = block + row * side * BLOCK
        place = ((y + row) * grid.pitch + x) * (vectors * LANES)
        # The first and last columns are neighbours of some of the pixels only.
        for column in range(BLOCK - 1):
            pass_over(weight + column * BLOCK, place + column * vectors * LANES, range(column + 1))
        with code.loop(BLOCK - 1, side) as middle:
            pass_over(weight + middle * BLOCK, place + middle * (vectors * LANES), range(BLOCK))
        for column in range(BLOCK - 1):
            last = side + column
            pass_over(
                weight + last * BLOCK, place + last * (vectors * LANES), range(column + 1, BLOCK)
            )
    return tile


def update_loop(vectors: int) -> Callable[..., None]:
    """Take r - step product, and sum its squares."""

    def update(
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

    return update


def turn_loop(vectors: int) -> Callable[..., None]:
    """Take x + step p, and then r + momentum p as the next p."""

    def turn(
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
                p = q.load(target) * root.spread(pixel)
                x.store(place, code.fma(steps[k], p, x.load(place)))
                p = code.fma(momenta[k], p, r.load(place))
                q.store(target, p * scale.spread(pixel))

    return turn


def pack_loop(vectors: int) -> Callable[..., None]:
    """Put classes next to each other, as r and as the first q."""

    def pack(
        code: Code, shape: Indices, labels: Array, factor: Array, r: Array, scale: Array, q: Array,
        count: Index, top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        with (
            code.loop(top, end) as y,
            code.loop(0, grid.width) as x,
            code.loop(0, count) as c,
        ):
            source = (c * grid.height + y) * grid.width + x
            value = labels.load(source, 1) * factor.load(c, 1)
            pixel = y * grid.columns + x
            r.store(pixel * (vectors * LANES) + c, value)
            padded = (y + grid.ry) * grid.pitch + x + grid.rx
            q.store(padded * (vectors * LANES) + c, value * scale.load(pixel, 1))

    return pack


def unpack_loop(vectors: int) -> Callable[..., None]:
    """Put the pixels of a class next to each other again."""

    def unpack(
        code: Code, shape: Indices, x: Array, factor: Array, value: Array, count: Index,
        top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        with (
            code.loop(top, end) as y,
            code.loop(0, grid.width) as column,
            code.loop(0, count) as c,
        ):
            source = (y * grid.columns + column) * (vectors * LANES) + c
            target = (c * grid.height + y) * grid.width + column
            value.store(target, x.load(source, 1) * factor.load(c, 1))

    return unpack
