"""Pixel graphs on a CPU: weights, products and conjugate gradients in compiled vector code.

The weights of every neighbour are stored as (row, block, neighbour, pixel of the block), in the
order of their use. Where that takes too much memory, each product makes them anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lpprop.kernels.llvm.code import BLOCK, GROUP, LANES, variant
from lpprop.kernels.llvm.memory import Borrowed
from lpprop.kernels.llvm.parallel import Each, bands, workers
from lpprop.kernels.llvm.stencil_loops import (
    RAISED,
    fill_loop,
    multiply_loop,
    pack_loop,
    turn_loop,
    unpack_loop,
    update_loop,
)

__all__ = ["Stencil", "stencil"]

# Columns that a thread works down at a time, so that their neighbours stay in its cache.
_STRIP = 64
_STORED_BYTES = 512 * 2**20


@dataclass(frozen=True, eq=False)
class Stencil:
    """A graph that joins each pixel with those of the square around it."""

    shape: NDArray[np.int64]  # the fields of stencil_loops.Grid
    guide: NDArray[Any]  # features (F, ry + H + ry, rx + columns + rx), 0 outside the image
    decay: NDArray[Any]  # (2 ry + 1, 2 rx + 1) exponents of 2, -inf for what is no neighbour
    slope: float  # of the exponent of 2 in the distance of features
    weights: Borrowed | None  # (H, blocks, neighbours, 4), raised
    degree: NDArray[Any]  # (H, columns), raised

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j."""
        product: Tensor = _Product.apply(self, x, np.ones_like(self.degree), RAISED)
        return product

    def normalised_product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum with D^-1/2 W D^-1/2, which keeps weights that are too small for W itself."""
        product: Tensor = _Product.apply(self, x, self._scale(), 0)
        return product

    def _scale(self) -> NDArray[Any]:
        scale: NDArray[Any] = np.where(self.degree > 0, self.degree, 1) ** -0.5
        return scale

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
        scale = self._scale()
        with workers(labels.numel() * self.decay.size) as each:
            rest = [
                _solve(_Work(self, len(part), scale, each), part, target, alpha, max_iter, tol)
                for part, target in zip(labels.split(GROUP), value.split(GROUP), strict=True)
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
    rx = max(1, max((abs(dx) for _, dx in offsets), default=0))  # the loops need three columns
    columns = -(-width // LANES) * LANES
    shape = np.array([width, columns, columns + 2 * rx, height, ry, rx], np.int64)
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
        weights = Borrowed((height, columns // BLOCK, decay.size, BLOCK), dtype, clear=False)
    degree = np.zeros((height, columns), dtype)
    fill = variant(fill_loop, dtype, len(features))

    def fill_band(top: int, end: int) -> None:
        if weights is None:
            target, row = np.empty((columns, decay.size), dtype), 0
        else:
            target, row = weights.array, decay.size * columns
        fill(shape, guide, decay, inside, target, degree, slope, row, top, end)

    with workers(height * columns * decay.size) as each:
        each(fill_band, bands(height))
    degree[:, width:] = 0
    return Stencil(shape, guide, decay, slope, weights, degree)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Stencil, x: Tensor, scale: NDArray[Any], raised: int) -> Tensor:
        ctx.operator = graph, scale, raised
        x = x.detach().contiguous()
        product = torch.empty_like(x)
        with workers(x.numel() * graph.decay.size) as each:
            for part, target in zip(x.split(GROUP), product.split(GROUP), strict=True):
                work = _Work(graph, len(part), scale, each)
                # Half of the power is taken off before, so that no sum overflows.
                factor = np.full(len(part), 2.0 ** (-raised // 2), work.dtype)
                work.start(part.numpy(), factor)
                work.multiply(0.0, -1.0)
                work.finish(work.product, target.numpy(), factor)
        return product

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        graph, scale, raised = ctx.operator
        return None, _Product.apply(graph, grad, scale, raised), None, None  # it is symmetric


def _solve(
    work: _Work, labels: Tensor, value: Tensor, alpha: float, max_iter: int, tol: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Write a group's solution; return its residuals, steps and whether each class converged."""
    # A power of two a class, so that squares neither overflow nor vanish.
    largest = np.finfo(work.dtype).maxexp - 1
    power = (torch.frexp(labels.abs().amax(1)).exponent - 1).clamp(-largest, largest - 1).numpy()
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
        vector, padded = (height, columns, self.lanes), (height + 2 * ry, pitch, self.lanes)
        self._memory = [
            Borrowed(shape, self.dtype, clear=True) for shape in (vector, vector, vector, padded)
        ]
        self.r, self.x, self.product, self.q = (memory.array for memory in self._memory)
        self.rows = bands(height)
        strips = [(x, min(x + _STRIP, columns)) for x in range(0, columns, _STRIP)]
        self.tiles = [(*band, *strip) for strip in strips for band in bands(height, len(strips))]

    def start(self, labels: NDArray[Any], factor: NDArray[Any]) -> None:
        """Set r and p to the labels (C, N), each class times its factor."""
        pack, shape = variant(pack_loop, self.dtype, self.vectors), self.graph.shape

        def band(top: int, end: int) -> None:
            pack(shape, labels, factor, self.r, self.scale, self.q, len(labels), top, end)

        self.each(band, self.rows)

    def finish(self, source: NDArray[Any], value: NDArray[Any], factor: NDArray[Any]) -> None:
        """Write (C, N) from r, x or product, each class times its factor."""
        unpack, shape = variant(unpack_loop, self.dtype, self.vectors), self.graph.shape

        def band(top: int, end: int) -> None:
            unpack(shape, source, factor, value, len(value), top, end)

        self.each(band, self.rows)

    def multiply(self, own: float, alpha: float) -> NDArray[Any]:
        """Set product to own p - alpha s W s p; return its inner product with p a class."""
        graph, dots = self.graph, np.zeros((len(self.tiles), self.lanes))
        features = len(graph.guide) if graph.weights is None else 0
        product = variant(multiply_loop, self.dtype, self.vectors, features)

        def tile(number: int, top: int, end: int, left: int, right: int) -> None:
            if graph.weights is None:
                weights = np.empty((LANES, graph.decay.size), self.dtype)
            else:
                weights = graph.weights.array
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
        update, shape = variant(update_loop, self.dtype, self.vectors), self.graph.shape

        def band(number: int, top: int, end: int) -> None:
            update(shape, self.r, self.product, step, dots[number], top, end)

        self.each(band, [(i, *place) for i, place in enumerate(self.rows)])
        total: NDArray[Any] = dots.sum(0)
        return total

    def turn(self, step: NDArray[Any], momentum: NDArray[Any]) -> None:
        """Take x + step p, and then r + momentum p as the next p."""
        step, momentum = step.astype(self.dtype), momentum.astype(self.dtype)
        turn, shape = variant(turn_loop, self.dtype, self.vectors), self.graph.shape

        def band(top: int, end: int) -> None:
            turn(shape, self.q, self.r, self.x, self.scale, self.root, step, momentum, top, end)

        self.each(band, self.rows)
