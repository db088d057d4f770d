"""Pixel graphs on a CPU: products and conjugate gradients in compiled vector code."""

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
from lpprop.kernels.llvm.builder import GROUP, LANES
from lpprop.kernels.llvm.jit import has_long_registers, specialise
from lpprop.kernels.llvm.parallel import ForEach, bands, workers
from lpprop.kernels.llvm.stencil_loops import (
    RAISED,
    advance_loop,
    lower_residual_loop,
    multiply_loop,
    pack_loop,
    unpack_loop,
)
from lpprop.kernels.llvm.stencil_weights import Weights, forecast_made
from lpprop.kernels.memory import Borrowed, borrow_tensor, pooled_bytes

__all__ = ["ClassGroup", "Stencil", "build_stencil", "forecast_stencil"]

# Weights beyond this are made anew for each product. With 19 classes that takes no longer.
_STORED_BYTES = 512 * 2**20
# Vectors of the solver: r, product and q.
_VECTORS = 3
# Planes beside the features: degree, scale, root, and borders.
_PLANES = 8
# Scores this many powers of 2 from 1 are brought to it, so that squares stay in range.
_MODERATE = 8


@dataclass(frozen=True, eq=False)
class Stencil:
    """A graph that joins each pixel with those of the square around it."""

    weights: Weights

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j."""
        scale = np.ones_like(self.weights.degree)
        product: Tensor = _Product.apply(self, x, scale, RAISED)
        return product

    def normalised_product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum by D^-1/2 W D^-1/2, which keeps weights that are too small for W itself."""
        product: Tensor = _Product.apply(self, x, self._scale(), 0)
        return product

    def _scale(self) -> NDArray[Any]:
        # A root and a quotient are rounded alike everywhere, where a power need not be.
        degree = self.weights.degree
        scale: NDArray[Any] = 1 / np.sqrt(np.where(degree > 0, degree, 1))
        return scale

    def propagate(
        self, scores: Float[Tensor, "C N"], *, alpha: float, max_iter: int, tol: float
    ) -> tuple[Float[Tensor, "C N"], Float[Tensor, " C"], Int[Tensor, " C"], Bool[Tensor, " C"]]:
        """Solve (I - alpha D^-1/2 W D^-1/2) x = scores by conjugate gradients."""
        scores = scores.detach().contiguous()
        value = borrow_tensor(tuple(scores.shape), self.weights.dtype).zero_()
        scale, count = self._scale(), self._count_classes(len(scores))
        with workers(len(scores) * self.weights.work) as for_each:
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
        value = borrow_tensor(tuple(scores.shape), self.weights.dtype).zero_()
        scale, count = self._scale(), self._count_classes(len(scores))
        with workers(len(scores) * self.weights.work) as for_each:
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
        lane = _VECTORS * self.weights.degree.nbytes
        fitting = int(free * 0.8 / lane) // LANES * LANES
        return max(LANES, min(GROUP, fitting, -(-classes // LANES) * LANES))


def forecast_stencil(
    classes: int, size: tuple[int, int], features: int, neighbours: int, itemsize: int
) -> int:
    """Estimate the bytes that suffice: weights made anew, the smallest groups of classes.

    What the pool has already counts as free.
    """
    plane = size[0] * -(-size[1] // LANES) * LANES * itemsize
    solver = _VECTORS * min(classes, LANES) * plane + classes * plane
    made = forecast_made(math.isqrt(neighbours + 1), size, itemsize)
    return max(0, solver + made - pooled_bytes()) + (features + _PLANES) * plane


def build_stencil(
    f: Float[Tensor, "F H W"],
    offsets: Offsets,
    spatial: tuple[float, ...],
    tau: float,
    *,
    squared: bool = False,
) -> Stencil:
    """Join pixels at these offsets, both ways, by exp(-|f_i - f_j| / tau) times their factor."""
    return Stencil(Weights(f, offsets, spatial, tau, squared=squared, stored=_STORED_BYTES))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Stencil, x: Tensor, scale: NDArray[Any], raised: int) -> Tensor:
        ctx.operator = graph, scale, raised
        x = x.detach().contiguous()
        product = torch.empty_like(x)
        with workers(len(x) * graph.weights.work) as for_each:
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
    """Add a group's solution to value; return its residuals, steps and whether it converged."""
    # A power of two per class, so that squares neither overflow nor underflow.
    largest = np.finfo(group.dtype).maxexp - 1
    highest = torch.linalg.vector_norm(scores, math.inf, 1)
    power = (torch.frexp(highest).exponent - 1).clamp(-largest, largest - 1).numpy()
    power = np.where(np.abs(power) > _MODERATE, power, 0)
    one = np.ones(len(scores), group.dtype)
    group.pack(scores.numpy(), np.ldexp(one, -power))

    x, zero = value.numpy(), np.zeros(len(scores))
    rr = first = group.lower_residual(zero)
    with np.errstate(over="ignore"):  # a tolerance beyond the dtype stops at once
        limit = max(tol, np.finfo(group.dtype).eps ** 1.5) * np.sqrt(first)
    iterations = np.zeros(len(scores), np.int64)
    for _ in range(max_iter):
        active = np.sqrt(rr) > limit
        if not active.any():
            break
        step = np.divide(rr, group.multiply(1.0, alpha), out=zero.copy(), where=active)
        rr_next = group.lower_residual(step)
        group.advance(x, step, np.divide(rr_next, rr, out=zero.copy(), where=active))
        rr = rr_next
        iterations += active
    if power.any():
        with np.errstate(over="ignore"):  # who casts it back refuses a result beyond the dtype
            x *= np.ldexp(one, power)[:, None]

    norm, size = np.sqrt(rr), np.sqrt(first)
    return norm / np.where(size > 0, size, 1), iterations, norm <= limit


def _iterate(
    group: ClassGroup,
    scores: Tensor,
    value: Tensor,
    alpha: float,
    steps: Sequence[tuple[float, float]],
) -> None:
    """Add what the steps make of a group's scores to value; nothing depends on sums over pixels."""
    count = len(scores)
    group.pack(scores.numpy(), np.ones(count, group.dtype))
    for number, (step, momentum) in enumerate(steps, start=1):
        along = np.full(count, step)
        if number < len(steps):  # the last direction needs no product
            group.multiply(1.0, alpha)
            group.lower_residual(along)
        group.advance(value.numpy(), along, np.full(count, momentum))


class ClassGroup:
    """The vectors of some classes, and the parts of a conjugate gradient step on them.

    The direction p is stored as q = D^-1/2 p with a border of zeros, so that a product looks up no
    scale for a neighbour; p is D^1/2 q. The solution x is the caller's.
    """

    def __init__(self, graph: Stencil, count: int, scale: NDArray[Any], for_each: ForEach) -> None:
        weights = graph.weights
        height, width, rows, columns = weights.size
        ry, rx = weights.ry, weights.rx
        pitch = columns + 2 * rx
        self.weights, self.for_each, self.count = weights, for_each, count
        self.dtype, self.lanes = weights.dtype, weights.lanes
        # Sums of ROWS rows of so many classes fill the registers.
        together = 6 if has_long_registers() else 3
        self._classes = together if count >= together else 0, count % together
        self._shape = np.array([count, height, width, columns, pitch, ry, rx], np.int64)
        self._whole = width // self.lanes * self.lanes
        self.scale, self.root = scale.astype(self.dtype), (1 / scale).astype(self.dtype)
        self.scale[height:], self.scale[:, width:] = 0, 0
        vector, padded = (rows, count, columns), (rows + 2 * ry, count, pitch)
        # The first residual takes 0 times the product off, and 0 times what is no number is none.
        self._memory = [
            Borrowed(shape, self.dtype, clear=clear)
            for shape, clear in ((vector, False), (vector, True), (padded, False))
        ]
        self.r, self.product, self.q = (memory.array for memory in self._memory)
        self.r[height:], self.r[..., width:] = 0, 0
        self.q[:ry], self.q[ry + height :] = 0, 0
        self.q[..., :rx], self.q[..., rx + width :] = 0, 0
        self.rows, self.tiles = bands(height), weights.tiles()

    def pack(self, scores: NDArray[Any], factor: NDArray[Any]) -> None:
        """Set r and p to the scores (C, N), each class times its factor."""
        kernel = specialise(pack_loop, self.dtype, lanes=self.lanes)

        def pack_band(top: int, end: int) -> None:
            kernel(self._shape, scores, factor, self.r, self.scale, self.q, self._whole, top, end)

        self.for_each(pack_band, self.rows)

    def unpack(self, source: NDArray[Any], value: NDArray[Any], factor: NDArray[Any]) -> None:
        """Write r or product as (C, N), each class times its factor."""
        kernel = specialise(unpack_loop, self.dtype, lanes=self.lanes)

        def unpack_band(top: int, end: int) -> None:
            kernel(self._shape, source, factor, value, self._whole, top, end)

        self.for_each(unpack_band, self.rows)

    def multiply(self, own: float, alpha: float) -> NDArray[Any]:
        """Set product to own p - alpha D^-1/2 W D^-1/2 p; return p . product per class."""
        weights, dots = self.weights, self._dots(len(self.tiles))
        kernel = specialise(multiply_loop, self.dtype, *self._classes, lanes=self.lanes)

        def multiply_tile(number: int, top: int, end: int, strip: int) -> None:
            made, base = weights.of_tile(top, end, strip)
            kernel(
                self._shape, weights.turns, made.array, base, weights.row, self.q, self.scale,
                self.root, self.product, dots[number], own, alpha, top, end,
                *weights.strips[strip],
            )  # fmt: skip

        self.for_each(multiply_tile, [(i, *tile) for i, tile in enumerate(self.tiles)])
        return self._sum(dots)

    def lower_residual(self, step: NDArray[Any]) -> NDArray[Any]:
        """Take step product off r; return r . r per class."""
        dots, step = self._dots(len(self.rows)), step.astype(self.dtype)
        kernel = specialise(lower_residual_loop, self.dtype, lanes=self.lanes)

        def lower_band(number: int, top: int, end: int) -> None:
            kernel(self._shape, self.r, self.product, step, dots[number], top, end)

        self.for_each(lower_band, [(i, *place) for i, place in enumerate(self.rows)])
        return self._sum(dots)

    def advance(self, x: NDArray[Any], step: NDArray[Any], momentum: NDArray[Any]) -> None:
        """Add step p to x, then set p to r + momentum p."""
        step, momentum = step.astype(self.dtype), momentum.astype(self.dtype)
        kernel = specialise(advance_loop, self.dtype, lanes=self.lanes)

        def advance_band(top: int, end: int) -> None:
            kernel(
                self._shape, self.q, self.r, x, self.scale, self.root, step, momentum, self._whole,
                top, end,
            )  # fmt: skip

        self.for_each(advance_band, self.rows)

    def _dots(self, pieces: int) -> NDArray[np.float64]:
        return np.zeros((pieces, self.count, self.lanes))

    def _sum(self, dots: NDArray[np.float64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = dots.sum((0, 2))
        return total
