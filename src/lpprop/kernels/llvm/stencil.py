"""Pixel graphs on a CPU: weights, products and conjugate gradients in compiled vector code.

Classes are taken in groups of up to 24, which lie next to each other in memory, and pixels in
blocks of four. A block keeps its sums, four pixels of three vectors of classes, in registers while
its neighbours pass: a neighbour is read once for the four pixels, a weight once for the classes.

The weights of every neighbour are stored as (row, block, neighbour, pixel of the block), in the
order of their use. Where that takes too much memory, each product makes them anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lpprop.kernels.llvm.code import (
    LANES,
    Array,
    Code,
    Doubles,
    Index,
    Indices,
    Kernel,
    Scalar,
    Value,
    Variable,
    compiled,
)
from lpprop.kernels.llvm.parallel import Each, bands, workers, zeros

__all__ = ["Stencil", "stencil"]

_BLOCK = 4
# Sums of more vectors of classes than three do not fit in the registers.
_GROUP = 3 * LANES
# Columns that a thread works down at a time, so that their neighbours stay in its cache.
_STRIP = 64
_STORED_BYTES = 512 * 2**20
# Weights are multiplied by 2 to this power, which normalised ones do not show: a pixel that is
# unlike all others then keeps its weights far below the smallest float32.
_RAISED = 60


@dataclass(frozen=True, eq=False)
class Stencil:
    """A graph that joins each pixel with those of the square around it."""

    shape: NDArray[np.int64]  # the fields of _Grid
    guide: NDArray[Any]  # features (F, ry + H + ry, rx + columns + rx), 0 outside the image
    decay: NDArray[Any]  # (2 ry + 1, 2 rx + 1) exponents of 2, -inf for what is no neighbour
    slope: float  # of the exponent of 2 in the distance of features
    weights: NDArray[Any] | None  # (H, blocks, neighbours, 4), raised
    degree: NDArray[Any]  # (H, columns), raised

    def _work(self, x: Tensor) -> int:
        return x.numel() * self.decay.size

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j."""
        product: Tensor = _Product.apply(self, x)
        return product

    def propagate(
        self, labels: Float[Tensor, "C N"], *, alpha: float, max_iter: int, tol: float
    ) -> tuple[Float[Tensor, "C N"], Float[Tensor, " C"], Int[Tensor, " C"], Bool[Tensor, " C"]]:
        """Solve (I - alpha D^-1/2 W D^-1/2) x = labels by conjugate gradients, without gradients.

        Returns:
            What `solvers.cg` does: the solutions, their relative residuals, the steps that each
            class took, and whether it converged.
        """
        labels = labels.detach().contiguous()
        value = torch.empty_like(labels)
        scale = np.where(self.degree > 0, self.degree, 1) ** -0.5
        with workers(self._work(labels)) as each:
            rest = [
                _solve(_Work(self, len(part), scale, each), part, target, alpha, max_iter, tol)
                for part, target in zip(labels.split(_GROUP), value.split(_GROUP), strict=True)
            ]
        residual, iterations, converged = (
            torch.from_numpy(np.concatenate(x)) for x in zip(*rest, strict=True)
        )
        return value, residual.to(labels.dtype), iterations, converged


def stencil(
    f: Float[Tensor, "F H W"],
    offsets: tuple[tuple[int, int], ...],
    spatial: tuple[float, ...],
    tau: float,
) -> Stencil:
    """Join pixels at these offsets, both ways, by exp(-|f_i - f_j| / tau) times their factor."""
    features, dtype = f.detach().numpy(), f.detach().numpy().dtype
    height, width = features.shape[1:]
    ry = max((dy for dy, _ in offsets), default=0)
    rx = max((abs(dx) for _, dx in offsets), default=1)
    columns = -(-width // LANES) * LANES
    shape = np.array([width, columns, columns + 2 * rx, height, ry, rx])
    decay = np.full((2 * ry + 1, 2 * rx + 1), -np.inf, dtype)
    for (dy, dx), factor in zip(offsets, spatial, strict=True):
        exponent = np.log2(factor) if factor > 0 else -np.inf
        decay[ry + dy, rx + dx] = decay[ry - dy, rx - dx] = exponent
    guide, inside = (
        np.zeros((planes, height + 2 * ry, columns + 2 * rx), dtype)
        for planes in (len(features), 1)
    )
    guide[:, ry : ry + height, rx : rx + width] = features
    inside[:, ry : ry + height, rx : rx + width] = 1
    # Weights are powers of 2; the slope is kept finite, since 0 times infinity is no weight.
    slope = -min(math.log2(math.e) / tau, float(np.finfo(dtype).max))

    weights = None
    if height * columns * decay.size * dtype.itemsize <= _STORED_BYTES:
        weights = zeros((height, columns // _BLOCK, decay.size, _BLOCK), dtype)
    degree = np.zeros((height, columns), dtype)
    fill = _kernel(_fill, dtype, len(features))

    def fill_band(top: int, end: int) -> None:
        target, row = weights, decay.size * columns
        if target is None:
            target, row = np.empty((columns, decay.size), dtype), 0
        fill(shape, guide, decay, inside, target, degree, slope, row, top, end)

    with workers(height * columns * decay.size) as each:
        each(fill_band, bands(height))
    degree[:, width:] = 0
    return Stencil(shape, guide, decay, slope, weights, degree)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Stencil, x: Tensor) -> Tensor:
        ctx.graph = graph
        x = x.detach().contiguous()
        product = torch.empty_like(x)
        with workers(graph._work(x)) as each:
            for part, target in zip(x.split(_GROUP), product.split(_GROUP), strict=True):
                work = _Work(graph, len(part), np.ones_like(graph.degree), each)
                work.start(part.numpy(), np.ones(len(part), work.dtype))
                work.multiply(0.0, -(2.0**-_RAISED))
                work.finish(work.product, target.numpy(), np.ones(len(part), work.dtype))
        return product

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph.product(grad)  # the graph is symmetric


def _solve(
    work: _Work, labels: Tensor, value: Tensor, alpha: float, max_iter: int, tol: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Write a group's solution; return its residuals, steps and whether each class converged."""
    # A power of two a class, so that squares neither overflow nor vanish.
    largest = np.finfo(work.dtype).maxexp - 1
    power = (torch.frexp(labels.abs().amax(1)).exponent - 1).clamp(min=-largest).numpy()
    one = np.ones(len(labels), work.dtype)
    work.start(labels.numpy(), np.ldexp(one, -power))

    nothing = np.zeros(work.lanes)
    rr = first = work.update(nothing)
    limit = max(tol, np.finfo(work.dtype).eps ** 1.5) * np.sqrt(first)
    iterations = np.zeros(work.lanes, np.int64)
    for _ in range(max_iter):
        active = np.sqrt(rr) > limit
        if not active.any():
            break
        step = np.divide(rr, work.multiply(1.0, alpha), out=nothing.copy(), where=active)
        rr_next = work.update(step)
        work.turn(step, np.divide(rr_next, rr, out=nothing.copy(), where=active))
        rr = rr_next
        iterations += active
    work.finish(work.x, value.numpy(), np.ldexp(one, power))

    norm, size = np.sqrt(rr), np.sqrt(first)
    residual = norm / np.where(size > 0, size, 1)
    converged = norm <= limit
    return residual[: len(labels)], iterations[: len(labels)], converged[: len(labels)]


class _Work:
    """The vectors of one group of classes, and what conjugate gradients do with them.

    The direction p is kept as q = s p with a border of zeros, where s is the scale D^-1/2 of the
    pixel, which the neighbours then need not look up; p is q / s.
    """

    def __init__(self, graph: Stencil, count: int, scale: NDArray[Any], each: Each) -> None:
        width, columns, pitch, height, ry, *_ = graph.shape.tolist()
        vectors = -(-count // LANES)
        self.graph, self.each, self.lanes = graph, each, vectors * LANES
        self.dtype = graph.degree.dtype
        self.vectors = vectors
        self.scale, self.root = scale.astype(self.dtype), (1 / scale).astype(self.dtype)
        self.scale[:, width:] = 0
        self.r, self.x, self.product = (
            zeros((height, columns, self.lanes), self.dtype) for _ in range(3)
        )
        self.q = zeros((height + 2 * ry, pitch, self.lanes), self.dtype)
        self.rows = bands(height)
        strips = [(x, min(x + _STRIP, columns)) for x in range(0, columns, _STRIP)]
        self.tiles = [(*band, *strip) for strip in strips for band in bands(height, len(strips))]

    def start(self, labels: NDArray[Any], factor: NDArray[Any]) -> None:
        """Set r and p to the labels (C, N), each class times its factor."""
        pack, shape = _kernel(_pack, self.dtype, self.vectors), self.graph.shape

        def band(top: int, end: int) -> None:
            pack(shape, labels, factor, self.r, self.scale, self.q, len(labels), top, end)

        self.each(band, self.rows)

    def finish(self, source: NDArray[Any], value: NDArray[Any], factor: NDArray[Any]) -> None:
        """Write (C, N) from r, x or product, each class times its factor."""
        unpack, shape = _kernel(_unpack, self.dtype, self.vectors), self.graph.shape

        def band(top: int, end: int) -> None:
            unpack(shape, source, factor, value, len(value), top, end)

        self.each(band, self.rows)

    def multiply(self, own: float, alpha: float) -> NDArray[Any]:
        """Set product to own p - alpha s W s p; return its inner product with p a class."""
        graph, dots = self.graph, np.zeros((len(self.tiles), self.lanes))
        features = len(graph.guide) if graph.weights is None else 0
        product = _kernel(_multiply, self.dtype, self.vectors, features)

        def tile(number: int, top: int, end: int, left: int, right: int) -> None:
            weights = graph.weights
            if weights is None:
                weights = np.empty((LANES, graph.decay.size), self.dtype)
            product(
                graph.shape, graph.guide, graph.decay, weights, self.q, self.scale, self.root,
                self.product, dots[number], graph.slope, own, alpha, top, end, left, right,
            )  # fmt: skip

        self.each(tile, [(i, *place) for i, place in enumerate(self.tiles)])
        total: NDArray[Any] = dots.sum(0)
        return total

    def update(self, step: NDArray[Any]) -> NDArray[Any]:
        """Take r - step product; return the squared norm of each class."""
        dots, step = np.zeros((len(self.rows), self.lanes)), step.astype(self.dtype)
        update, shape = _kernel(_update, self.dtype, self.vectors), self.graph.shape

        def band(number: int, top: int, end: int) -> None:
            update(shape, self.r, self.product, step, dots[number], top, end)

        self.each(band, [(i, *place) for i, place in enumerate(self.rows)])
        total: NDArray[Any] = dots.sum(0)
        return total

    def turn(self, step: NDArray[Any], momentum: NDArray[Any]) -> None:
        """Take x + step p, and then r + momentum p as the next p."""
        step, momentum = step.astype(self.dtype), momentum.astype(self.dtype)
        turn, shape = _kernel(_turn, self.dtype, self.vectors), self.graph.shape

        def band(top: int, end: int) -> None:
            turn(shape, self.q, self.r, self.x, self.scale, self.root, step, momentum, top, end)

        self.each(band, self.rows)


# --------------------------------------------------------------------------- kernels


@cache
def _kernel(make: Callable[..., Callable[..., None]], dtype: np.dtype[Any], *how: int) -> Kernel:
    """Compile a kernel, once for each of its variants."""
    return compiled(make(*how), dtype)


class _Grid(NamedTuple):
    """Where things lie, as values of the code."""

    width: Value
    columns: Value  # the width, rounded up to whole vectors
    pitch: Value  # the columns with a border of rx on either side
    height: Value
    ry: Value
    rx: Value

    @classmethod
    def of(cls, shape: Indices) -> _Grid:
        return cls(*shape.unpack(len(cls._fields)))

    @property
    def neighbours(self) -> Value:
        return (self.ry * 2 + 1) * (self.rx * 2 + 1)


def _fill_vector(
    code: Code, grid: _Grid, features: int, guide: Array, decay: Array, weights: Array,
    slope: Scalar, y: Value, x: Value, place: Value, inside: Array | None = None,
) -> Value:  # fmt: skip
    """Write the weights of a vector of pixels, two blocks; sum those of neighbours inside."""
    plane = (grid.height + grid.ry * 2) * grid.pitch
    centre = (y + grid.ry) * grid.pitch + x + grid.rx
    own = [guide.load(centre + plane * feature) for feature in range(features)]
    slopes = code.spread(slope)
    degree = code.variable(code.vector(0.0))
    with code.loop(0, grid.ry * 2 + 1) as row, code.loop(0, grid.rx * 2 + 1) as column:
        near = (y + row) * grid.pitch + x + column
        square = code.vector(0.0)
        for feature in range(features):
            difference = own[feature] - guide.load(near + plane * feature)
            square = code.fma(difference, difference, square)
        neighbour = row * (grid.rx * 2 + 1) + column
        exponent = code.fma(code.sqrt(square), slopes, decay.spread(neighbour))
        weight = code.exp2(exponent, _RAISED)
        for block in range(LANES // _BLOCK):
            target = place + (grid.neighbours * block + neighbour) * _BLOCK
            weights.store(target, code.part(weight, block * _BLOCK, _BLOCK))
        if inside is not None:
            degree.set(code.fma(weight, inside.load(near), degree.get()))
    return degree.get()


def _fill(features: int) -> Callable[..., None]:
    def fill(
        code: Code, shape: Indices, guide: Array, decay: Array, inside: Array, weights: Array,
        degree: Array, slope: Scalar, row: Index, top: Index, end: Index,
    ) -> None:  # fmt: skip
        """Make weights and degrees; `row` is how far apart the rows of weights lie."""
        grid = _Grid.of(shape)
        with code.loop(top, end) as y, code.loop(0, grid.columns, LANES) as x:
            place = y * row + x * grid.neighbours
            sums = _fill_vector(
                code, grid, features, guide, decay, weights, slope, y, x, place, inside
            )
            degree.store(y * grid.columns + x, sums)

    return fill


def _multiply(vectors: int, features: int) -> Callable[..., None]:
    """Multiply by weights that are stored, or made anew from so many features."""
    lanes = vectors * LANES

    def multiply(
        code: Code, shape: Indices, guide: Array, decay: Array, weights: Array, q: Array,
        scale: Array, root: Array, product: Array, dots: Doubles, slope: Scalar, own: Scalar,
        alpha: Scalar, top: Index, end: Index, left: Index, right: Index,
    ) -> None:  # fmt: skip
        grid = _Grid.of(shape)
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
                with code.loop(0, LANES, _BLOCK) as within:
                    x = start + within
                    block = place + within * grid.neighbours
                    tile = _gather(code, grid, weights, q, y, x, block, vectors)
                    for n, k in np.ndindex(_BLOCK, vectors):
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
    code: Code, grid: _Grid, weights: Array, q: Array, y: Value, x: Value, block: Value,
    vectors: int,
) -> list[Variable]:  # fmt: skip
    """Sum the neighbours of a block of pixels with their weights."""
    tile = [code.variable(code.vector(0.0)) for _ in range(_BLOCK * vectors)]
    side = grid.rx * 2 + 1

    def pass_over(weight: Value, place: Value, pixels: range) -> None:
        """Add one neighbour to those pixels; it stands one column nearer to each next one."""
        near = [q.load(place + k * LANES) for k in range(vectors)]
        for n in pixels:
            factor = weights.spread(weight - n * (_BLOCK - 1))
            for k in range(vectors):
                total = tile[n * vectors + k]
                total.set(code.fma(factor, near[k], total.get()))

    with code.loop(0, grid.ry * 2 + 1) as row:
        weight = block + row * side * _BLOCK
        place = ((y + row) * grid.pitch + x) * (vectors * LANES)
        # The first and last columns are neighbours of some of the pixels only.
        for column in range(_BLOCK - 1):
            pass_over(weight + column * _BLOCK, place + column * vectors * LANES, range(column + 1))
        with code.loop(_BLOCK - 1, side) as middle:
            pass_over(weight + middle * _BLOCK, place + middle * (vectors * LANES), range(_BLOCK))
        for column in range(_BLOCK - 1):
            last = side + column
            pass_over(
                weight + last * _BLOCK, place + last * (vectors * LANES), range(column + 1, _BLOCK)
            )
    return tile


def _update(vectors: int) -> Callable[..., None]:
    def update(
        code: Code, shape: Indices, r: Array, product: Array, step: Array, dots: Doubles,
        top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = _Grid.of(shape)
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


def _turn(vectors: int) -> Callable[..., None]:
    def turn(
        code: Code, shape: Indices, q: Array, r: Array, x: Array, scale: Array, root: Array,
        step: Array, momentum: Array, top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = _Grid.of(shape)
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


def _pack(vectors: int) -> Callable[..., None]:
    def pack(
        code: Code, shape: Indices, labels: Array, factor: Array, r: Array, scale: Array, q: Array,
        count: Index, top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = _Grid.of(shape)
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


def _unpack(vectors: int) -> Callable[..., None]:
    def unpack(
        code: Code, shape: Indices, x: Array, factor: Array, value: Array, count: Index,
        top: Index, end: Index,
    ) -> None:  # fmt: skip
        grid = _Grid.of(shape)
        with (
            code.loop(top, end) as y,
            code.loop(0, grid.width) as column,
            code.loop(0, count) as c,
        ):
            source = (y * grid.columns + column) * (vectors * LANES) + c
            target = (c * grid.height + y) * grid.width + column
            value.store(target, x.load(source, 1) * factor.load(c, 1))

    return unpack
