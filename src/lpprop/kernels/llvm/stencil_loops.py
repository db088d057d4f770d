"""The loops of the pixel graph, each made for a number of features, or of classes at once.

Pixels of a row lie next to each other in memory, and the rows of all classes beside each other. A
vector is one of pixels. The product keeps its sums, those of a vector in each of `ROWS` rows for
several classes, in registers while their neighbours pass: scores are read once for all rows that
they are neighbours of, a weight once for all of these classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lpprop.kernels.llvm.builder import (
    Array,
    Code,
    Doubles,
    Index,
    Indices,
    Scalar,
    Value,
)
from lpprop.kernels.llvm.jit import Kernel

__all__ = [
    "RAISED",
    "ROWS",
    "Grid",
    "Guide",
    "add_degrees_loop",
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
#: Rows that a product sums at a time.
ROWS = 4
# The vector whose weights are asked for is so many after the one that is summed.
_AHEAD = 2
# Up to so many features per pixel stay in registers, or near them.
_REGISTERS = 8


class Guide(NamedTuple):
    """The sizes of the features with their border, as values of the code."""

    pitch: Value  # of a row
    plane: Value  # of a feature
    ry: Value
    rx: Value
    neighbours: Value  # that are stored per pixel: itself, and half of the square around it
    width: Value  # places per row and neighbour of the weights

    @classmethod
    def of(cls, shape: Indices) -> Guide:
        """Read them from an argument."""
        return cls(*shape.unpack(len(cls._fields)))


class Grid(NamedTuple):
    """The sizes of an image with its classes, as values of the code."""

    classes: Value
    height: Value
    width: Value
    columns: Value  # the width, rounded up to whole vectors
    pitch: Value  # the columns with a border of rx on either side
    ry: Value
    rx: Value

    @classmethod
    def of(cls, shape: Indices) -> Grid:
        """Read them from an argument."""
        return cls(*shape.unpack(len(cls._fields)))

    def vector(self, y: Value, c: Value, x: Value) -> Value:
        """Return the place of a pixel in r or the product, (rows, C, columns)."""
        return (y * self.classes + c) * self.columns + x

    def padded(self, y: Value, c: Value, x: Value) -> Value:
        """Return the place of a pixel in q, (ry + rows + ry, C, pitch)."""
        return ((y + self.ry) * self.classes + c) * self.pitch + x + self.rx

    def scores(self, y: Value, c: Value, x: Value) -> Value:
        """Return the place of a pixel in scores (C, H, W)."""
        return (c * self.height + y) * self.width + x


def fill_loop(features: int, squared: bool = False) -> Kernel:
    """Make the weights of a strip of pixels with so many features.

    A neighbour to the right of its pixel is stored `shift` places further right, so that seen from
    either of the two their weight lies at a whole number of vectors or to the right of it.
    """

    def fill(
        code: Code, shape: Indices, places: Indices, guide: Array, decay: Array, weights: Array,
        slope: Scalar, base: Index, row: Index, top: Index, end: Index, left: Index,
    ) -> None:  # fmt: skip
        size = Guide.of(shape)
        few, slopes = features <= _REGISTERS, code.splat(slope)
        with code.loop(top, end) as y, code.loop(0, size.neighbours) as neighbour:
            shift, step = (places.load(neighbour * 2 + i, 1) for i in range(2))
            exponents = decay.splat(neighbour)
            with code.loop(0, size.width, code.lanes) as place:
                centre = (y + size.ry) * size.pitch + size.rx + left + place - shift
                square = code.vector(0.0)
                if few:
                    for f in range(features):
                        own = guide.load(centre + size.plane * f)
                        difference = own - guide.load(centre + size.plane * f + step)
                        square = code.fma(difference, difference, square)
                else:
                    total = code.variable(square)
                    with code.loop(0, features) as feature:
                        own = size.plane * feature + centre
                        difference = guide.load(own) - guide.load(own + step)
                        total.set(code.fma(difference, difference, total.get()))
                    square = total.get()
                distance = square if squared else code.sqrt(square)
                weight = code.exp2(code.fma(distance, slopes, exponents), RAISED)
                weights.store(base + y * row + neighbour * size.width + place, weight)

    return fill


def add_degrees_loop() -> Kernel:
    """Sum the weights of each pixel of a tile, but those of neighbours outside the image."""

    def add_degrees(
        code: Code, shape: Indices, turns: Indices, weights: Array, base: Index, row: Index,
        inside: Array, degree: Array, top: Index, end: Index, left: Index, right: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        with code.loop(top, end, ROWS) as y, code.loop(left, right, code.lanes) as x:
            place = base + y * row + x - left
            tile = _Tile(code, grid, turns, weights, row, place, inside, y, x, code.index(0), 1)
            for n in range(ROWS):
                degree.store((y + n) * grid.columns + x, tile.sums[n][0].get())

    return add_degrees


def multiply_loop(together: int, rest: int) -> Kernel:
    """Multiply a tile by its weights: so many classes at a time, and those that are left."""

    def multiply(
        code: Code, shape: Indices, turns: Indices, weights: Array, base: Index, row: Index,
        q: Array, scale: Array, root: Array, product: Array, dots: Doubles, own: Scalar,
        alpha: Scalar, top: Index, end: Index, left: Index, right: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        own_p, strength = code.splat(own), code.splat(alpha)
        with code.loop(top, end, ROWS) as y, code.loop(left, right, code.lanes) as x:
            place = base + y * row + x - left
            # What the next vector of pixels reads first lies in as many places as there are
            # classes and weights, too many for the processor to foresee.
            with code.loop(0, grid.classes) as c:
                for n in range(ROWS):
                    q.prefetch(grid.padded(y + grid.ry + ROWS + n, c, x + code.lanes))

            def add_classes(c: Value, count: int, y: Value = y, x: Value = x) -> None:
                tile = _Tile(code, grid, turns, weights, row, place, q, y, x, c, count)
                sums = [code.vector(0.0)] * count
                for n in range(ROWS):
                    pixel = (y + n) * grid.columns + x
                    here, reach = root.load(pixel), scale.load(pixel) * strength
                    for k in range(count):
                        p = q.load(grid.padded(y + n, c + k, x)) * here
                        value = own_p * p - tile.sums[n][k].get() * reach
                        product.store(grid.vector(y + n, c + k, x), value)
                        sums[k] = code.fma(p, value, sums[k])
                for k in range(count):
                    dots.add((c + k) * code.lanes, sums[k])

            if together:
                with code.loop(0, grid.classes - rest, together) as c:
                    add_classes(c, together)
            if rest:
                add_classes(grid.classes - rest, rest)

    return multiply


class _Tile:
    """The sums of `ROWS` vectors of pixels over their neighbours, for some classes.

    The weights of a vector to come are asked for between the sums: asked for at once, they would
    fill the queue, and nothing would be summed meanwhile.
    """

    def __init__(
        self, code: Code, grid: Grid, turns: Indices, weights: Array, row: Value, place: Value,
        q: Array, y: Value, x: Value, c: Value, count: int,
    ) -> None:  # fmt: skip
        self.sums = [[code.variable(code.vector(0.0)) for _ in range(count)] for _ in range(ROWS)]
        side = grid.rx * 2 + 1

        def add_row(near: Value, rows: Iterable[int]) -> None:
            """Add what is `near` rows below the topmost neighbour, for the rows that it is near."""
            with code.loop(0, side) as column:
                source = ((y + near) * grid.classes + c) * grid.pitch + x + column
                scores = [q.load(source + grid.pitch * k) for k in range(count)]
                for n in rows:
                    turn = turns.load((near - n) * side + column, 1)
                    weights.prefetch(place + row * n + turn + _AHEAD * code.lanes)
                    weight = weights.load(place + row * n + turn)
                    for k in range(count):
                        total = self.sums[n][k]
                        total.set(code.fma(weight, scores[k], total.get()))

        # The first and last rows are neighbours of some of the rows only.
        for near in range(ROWS - 1):
            add_row(code.index(near), range(near + 1))
        with code.loop(ROWS - 1, grid.ry * 2 + 1) as middle:
            add_row(middle, range(ROWS))
        for near in range(ROWS - 1):
            add_row(grid.ry * 2 + 1 + near, range(near + 1, ROWS))


def lower_residual_loop() -> Kernel:
    """Take step product off r, and sum r . r."""

    def lower_residual(
        code: Code, shape: Indices, r: Array, product: Array, step: Array, dots: Doubles,
        top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        with code.loop(top, end) as y, code.loop(0, grid.classes) as c:
            steps, total = step.splat(c), code.variable(code.vector(0.0))
            with code.loop(0, grid.columns, code.lanes) as x:
                place = grid.vector(y, c, x)
                value = r.load(place) - steps * product.load(place)
                r.store(place, value)
                total.set(code.fma(value, value, total.get()))
            dots.add(c * code.lanes, total.get())

    return lower_residual


def advance_loop() -> Kernel:
    """Add step p to x, then set p to r + momentum p."""

    def advance(
        code: Code, shape: Indices, q: Array, r: Array, x: Array, scale: Array, root: Array,
        step: Array, momentum: Array, whole: Index, top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        with code.loop(top, end) as y, code.loop(0, grid.classes) as c:
            for lanes, start, stop in ((code.lanes, code.index(0), whole), (1, whole, grid.width)):
                steps, momenta = (
                    a.splat(c) if lanes > 1 else a.load(c, 1) for a in (step, momentum)
                )
                with code.loop(start, stop, lanes) as column:
                    pixel, target = y * grid.columns + column, grid.padded(y, c, column)
                    p = q.load(target, lanes) * root.load(pixel, lanes)
                    place = grid.scores(y, c, column)
                    x.store(place, code.fma(steps, p, x.load(place, lanes)))
                    p = code.fma(momenta, p, r.load(grid.vector(y, c, column), lanes))
                    q.store(target, p * scale.load(pixel, lanes))

    return advance


def pack_loop() -> Kernel:
    """Write scores (C, H, W) as r and as the first q, each class times its factor."""

    def pack(
        code: Code, shape: Indices, scores: Array, factor: Array, r: Array, scale: Array, q: Array,
        whole: Index, top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        with code.loop(top, end) as y, code.loop(0, grid.classes) as c:
            for lanes, start, stop in ((code.lanes, code.index(0), whole), (1, whole, grid.width)):
                factors = factor.splat(c) if lanes > 1 else factor.load(c, 1)
                with code.loop(start, stop, lanes) as x:
                    value = scores.load(grid.scores(y, c, x), lanes) * factors
                    r.store(grid.vector(y, c, x), value)
                    reach = scale.load(y * grid.columns + x, lanes)
                    q.store(grid.padded(y, c, x), value * reach)

    return pack


def unpack_loop() -> Kernel:
    """Write a vector as scores (C, H, W), each class times its factor."""

    def unpack(
        code: Code, shape: Indices, source: Array, factor: Array, scores: Array, whole: Index,
        top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = Grid.of(shape)
        with code.loop(top, end) as y, code.loop(0, grid.classes) as c:
            for lanes, start, stop in ((code.lanes, code.index(0), whole), (1, whole, grid.width)):
                factors = factor.splat(c) if lanes > 1 else factor.load(c, 1)
                with code.loop(start, stop, lanes) as x:
                    value = source.load(grid.vector(y, c, x), lanes) * factors
                    scores.store(grid.scores(y, c, x), value)

    return unpack
