"""Pixel graphs on a CPU: weights, products and conjugate gradients in compiled vector code.

The weights are stored as (row, block, neighbour, pixel of the block), in the order of their use.
Where that takes too much memory, each product computes them anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.memory import available_bytes
from lpprop.kernels.interface import Offsets
from lpprop.kernels.llvm.builder import BLOCK, GROUP, LANES
from lpprop.kernels.llvm.jit import specialise
from lpprop.kernels.llvm.memory import Borrowed, pooled_bytes
from lpprop.kernels.llvm.parallel import ForEach, bands, workers
from lpprop.kernels.llvm.stencil_loops import (
    RAISED,
    advance_loop,
    fill_loop,
    lower_residual_loop,
    multiply_loop,
    pack_loop,
    unpack_loop,
)

__all__ = ["ClassGroup", "Stencil", "build_stencil", "forecast_stencil"]

# Columns that a thread works down at a time, so that their neighbours stay in its cache.
_STRIP = 64
_STORED_BYTES = 512 * 2**20
# Vectors of the solver: r, x, product and q.
_VECTORS = 4
# Planes beside the features: degree, scale, root, and borders.
_PLANES = 8


@dataclass(frozen=True, eq=False)
class Stencil:
    """A graph that joins each pixel with those of the square around it."""

    shape: NDArray[np.int64]  # the fields of stencil_loops.Grid
    guide: NDArray[Any]  # features (F, ry + H + ry, rx + columns + rx), 0 outside the image
    decay: NDArray[Any]  # (2 ry + 1, 2 rx + 1) exponents of 2, -inf at no neighbour's place
    slope: float  # exponent of 2 per distance of features
    squared: bool  # whether that distance is squared
    weights: Borrowed | None  # (H, blocks, neighbours, 4), raised
    degree: NDArray[Any]  # (H, columns), raised

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j."""
        product: Tensor = _Product.apply(self, x, np.ones_like(self.degree), RAISED)
        return product

    def normalised_product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum by D^-1/2 W D^-1/2, which keeps weights that are too small for W itself."""
        product: Tensor = _Product.apply(self, x, self._scale(), 0)
        return product

    def _scale(self) -> NDArray[Any]:
        # A root and a quotient are rounded alike everywhere, where a power need not be.
        scale: NDArray[Any] = 1 / np.sqrt(np.where(self.degree > 0, self.degree, 1))
        return scale

    def propagate(
        self, scores: Float[Tensor, "C N"], *, alpha: float, max_iter: int, tol: float
    ) -> tuple[Float[Tensor, "C N"], Float[Tensor, " C"], Int[Tensor, " C"], Bool[Tensor, " C"]]:
        """Solve (I - alpha D^-1/2 W D^-1/2) x = scores by conjugate gradients."""
        scores = scores.detach().contiguous()
        value = torch.empty_like(scores)
        scale, count = self._scale(), self._count_classes(len(scores))
        with workers(scores.numel() * self.decay.size) as for_each:
            rest = [
                _solve(
                    ClassGroup(self, len(part), scale, for_each), part, target, alpha, max_iter, tol
                )
                for part, target in zip(scores.split(count), value.split(count), strict=True)
            ]
        residual, iterations, converged = (
            torch.from_numpy(np.concatenate(x)) for x in zip(*rest, strict=True)
        )
        return value, residual.to(scores.dtype), iterations, converged

    def iterate(
        self, scores: Float[Tensor, "C N"], *, alpha: float, steps: Sequence[tuple[float, float]]
    ) -> Float[Tensor, "C N"]:
        """Take steps towards the solution of (I - alpha D^-1/2 W D^-1/2) x = scores."""
        scores = scores.detach().contiguous()
        value = torch.empty_like(scores)
        scale, count = self._scale(), self._count_classes(len(scores))
        with workers(scores.numel() * self.decay.size) as for_each:
            for part, target in zip(scores.split(count), value.split(count), strict=True):
                _iterate(ClassGroup(self, len(part), scale, for_each), part, target, alpha, steps)
        return value

    def _count_classes(self, classes: int) -> int:
        """Return how many classes to solve at a time: fewer where memory is short.

        It makes no difference to the result, and fewer take longer.
        """
        free = available_bytes(torch.device("cpu"))
        if free is None:
            return GROUP
        lane = _VECTORS * self.degree.nbytes
        fitting = int(free * 0.8 / lane) // LANES * LANES
        return max(LANES, min(GROUP, fitting, -(-classes // LANES) * LANES))


def forecast_stencil(
    classes: int, size: tuple[int, int], features: int, neighbours: int, itemsize: int
) -> int:
    """Estimate the bytes of a stencil and of its solver for the smallest groups of classes.

    What the pool has already counts as free.
    """
    plane = size[0] * -(-size[1] // LANES) * LANES * itemsize
    weights = (neighbours + 1) * plane
    solver = _VECTORS * LANES * plane + classes * plane
    kept = solver + (weights if weights <= _STORED_BYTES else 0)
    return max(0, kept - pooled_bytes()) + (features + _PLANES) * plane


def build_stencil(
    f: Float[Tensor, "F H W"],
    offsets: Offsets,
    spatial: tuple[float, ...],
    tau: float,
    *,
    squared: bool = False,
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
    # Weights are powers of 2. The slope stays finite, since 0 times infinity is not a number.
    slope = -min(math.log2(math.e) / tau, float(np.finfo(dtype).max))

    weights = None
    if height * columns * decay.size * dtype.itemsize <= _STORED_BYTES:
        weights = Borrowed((height, columns // BLOCK, decay.size, BLOCK), dtype, clear=False)
    degree = np.zeros((height, columns), dtype)
    fill = specialise(fill_loop, dtype, len(features), squared)

    def fill_band(top: int, end: int) -> None:
        if weights is None:
            target, row = np.empty((columns, decay.size), dtype), 0
        else:
            target, row = weights.array, decay.size * columns
        fill(shape, guide, decay, inside, target, degree, slope, row, top, end)

    with workers(height * columns * decay.size) as for_each:
        for_each(fill_band, bands(height))
    degree[:, width:] = 0
    return Stencil(shape, guide, decay, slope, squared, weights, degree)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Stencil, x: Tensor, scale: NDArray[Any], raised: int) -> Tensor:
        ctx.operator = graph, scale, raised
        x = x.detach().contiguous()
        product = torch.empty_like(x)
        with workers(x.numel() * graph.decay.size) as for_each:
            for part, target in zip(x.split(GROUP), product.split(GROUP), strict=True):
                group = ClassGroup(graph, len(part), scale, for_each)
                # Half of the power comes off before the product, so that no sum overflows.
                factor = np.full(len(part), 2.0 ** (-raised // 2), group.dtype)
                group.pack(part.numpy(), factor)
                group.multiply(0.0, -1.0)
                group.unpack(group.product, target.numpy(), factor)
        return product

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        graph, scale, raised = ctx.operator
        return None, _Product.apply(graph, grad, scale, raised), None, None  # W is symmetric


def _solve(
    group: ClassGroup, scores: Tensor, value: Tensor, alpha: float, max_iter: int, tol: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Write a group's solution; return its residuals, steps and whether each class converged."""
    # A power of two per class, so that squares neither overflow nor underflow.
    largest = np.finfo(group.dtype).maxexp - 1
    power = (torch.frexp(scores.abs().amax(1)).exponent - 1).clamp(-largest, largest - 1).numpy()
    one = np.ones(len(scores), group.dtype)
    group.pack(scores.numpy(), np.ldexp(one, -power))

    zero = np.zeros(group.lanes)
    rr = first = group.lower_residual(zero)
    with np.errstate(over="ignore"):  # a tolerance beyond the dtype stops at once
        limit = max(tol, np.finfo(group.dtype).eps ** 1.5) * np.sqrt(first)
    iterations = np.zeros(group.lanes, np.int64)
    for _ in range(max_iter):
        active = np.sqrt(rr) > limit
        if not active.any():
            break
        step = np.divide(rr, group.multiply(1.0, alpha), out=zero.copy(), where=active)
        rr_next = group.lower_residual(step)
        group.advance(step, np.divide(rr_next, rr, out=zero.copy(), where=active))
        rr = rr_next
        iterations += active
    group.unpack(group.x, value.numpy(), np.ldexp(one, power))

    norm, size = np.sqrt(rr), np.sqrt(first)
    residual = norm / np.where(size > 0, size, 1)
    converged = norm <= limit
    return residual[: len(scores)], iterations[: len(scores)], converged[: len(scores)]


def _iterate(
    group: ClassGroup,
    scores: Tensor,
    value: Tensor,
    alpha: float,
    steps: Sequence[tuple[float, float]],
) -> None:
    """Write what the steps make of a group's scores; nothing depends on sums over the image."""
    one = np.ones(len(scores), group.dtype)
    group.pack(scores.numpy(), one)
    for number, (step, momentum) in enumerate(steps, start=1):
        along = np.full(group.lanes, step)
        if number < len(steps):  # the last direction needs no product
            group.multiply(1.0, alpha)
            group.lower_residual(along)
        group.advance(along, np.full(group.lanes, momentum))
    group.unpack(group.x, value.numpy(), one)


class ClassGroup:
    """The vectors of up to `GROUP` classes, and the parts of a conjugate gradient step on them.

    The direction p is stored as q = D^-1/2 p with a border of zeros, so that a product looks up no
    scale for a neighbour; p is D^1/2 q.
    """

    def __init__(self, graph: Stencil, count: int, scale: NDArray[Any], for_each: ForEach) -> None:
        width, columns, pitch, height, ry, *_ = graph.shape.tolist()
        vectors = -(-count // LANES)
        self.graph, self.for_each, self.lanes = graph, for_each, vectors * LANES
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

    def pack(self, scores: NDArray[Any], factor: NDArray[Any]) -> None:
        """Set r and p to the scores (C, N), each class times its factor."""
        kernel, shape = specialise(pack_loop, self.dtype, self.vectors), self.graph.shape

        def pack_band(top: int, end: int) -> None:
            kernel(shape, scores, factor, self.r, self.scale, self.q, len(scores), top, end)

        self.for_each(pack_band, self.rows)

    def unpack(self, source: NDArray[Any], value: NDArray[Any], factor: NDArray[Any]) -> None:
        """Write r, x or product as (C, N), each class times its factor."""
        kernel, shape = specialise(unpack_loop, self.dtype, self.vectors), self.graph.shape

        def unpack_band(top: int, end: int) -> None:
            kernel(shape, source, factor, value, len(value), top, end)

        self.for_each(unpack_band, self.rows)

    def multiply(self, own: float, alpha: float) -> NDArray[Any]:
        """Set product to own p - alpha D^-1/2 W D^-1/2 p; return p . product per class."""
        graph, dots = self.graph, np.zeros((len(self.tiles), self.lanes))
        features = len(graph.guide) if graph.weights is None else 0
        squared = graph.weights is None and graph.squared
        kernel = specialise(multiply_loop, self.dtype, self.vectors, features, squared)

        def multiply_tile(number: int, top: int, end: int, left: int, right: int) -> None:
            if graph.weights is None:
                weights = np.empty((LANES, graph.decay.size), self.dtype)
            else:
                weights = graph.weights.array
            kernel(
                graph.shape, graph.guide, graph.decay, weights, self.q, self.scale, self.root,
                self.product, dots[number], graph.slope, own, alpha, top, end, left, right,
            )  # fmt: skip

        self.for_each(multiply_tile, [(i, *place) for i, place in enumerate(self.tiles)])
        total: NDArray[Any] = dots.sum(0)
        return total

    def lower_residual(self, step: NDArray[Any]) -> NDArray[Any]:
        """Take step product off r; return r . r per class."""
        dots, step = np.zeros((len(self.rows), self.lanes)), step.astype(self.dtype)
        kernel, shape = specialise(lower_residual_loop, self.dtype, self.vectors), self.graph.shape

        def lower_band(number: int, top: int, end: int) -> None:
            kernel(shape, self.r, self.product, step, dots[number], top, end)

        self.for_each(lower_band, [(i, *place) for i, place in enumerate(self.rows)])
        total: NDArray[Any] = dots.sum(0)
        return total

    def advance(self, step: NDArray[Any], momentum: NDArray[Any]) -> None:
        """Add step p to x, then set p to r + momentum p."""
        step, momentum = step.astype(self.dtype), momentum.astype(self.dtype)
        kernel, shape = specialise(advance_loop, self.dtype, self.vectors), self.graph.shape

        def advance_band(top: int, end: int) -> None:
            kernel(shape, self.q, self.r, self.x, self.scale, self.root, step, momentum, top, end)

        self.for_each(advance_band, self.rows)
