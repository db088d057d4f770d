"""The pixel graph on a GPU: its weights, as planes, and what it offers to the solvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lpprop.kernels.interface import Offsets
from lpprop.kernels.triton.cg import solve
from lpprop.kernels.triton.product import multiply, reach_of
from lpprop.kernels.triton.tiling import tuning

__all__ = ["Stencil", "build_stencil"]


def build_stencil(
    f: Float[Tensor, "F H W"],
    offsets: Offsets,
    spatial: tuple[float, ...],
    tau: float,
    *,
    squared: bool = False,
) -> Stencil:
    """Join pixels at these offsets, both ways, by exp(-|f_i - f_j| / tau) times their factor."""
    f = f.detach().contiguous()
    tau = max(tau, torch.finfo(f.dtype).tiny)  # equal features would give 0 / 0
    features, height, width = f.shape
    weights = f.new_empty((len(offsets), height, width))
    if offsets:
        # One tensor, since Triton takes Python's numbers as float32.
        constants = f.new_tensor([*spatial, tau])
        chosen = tuning()
        with torch.cuda.device_of(f):
            _fill_stencil[(triton.cdiv(height * width, chosen.tile),)](
                f, constants, weights, len(offsets), height, width, reach_of(offsets)[1], features,
                squared, chosen.tile, **chosen.launch,
            )  # fmt: skip
    return Stencil(weights, offsets)


@dataclass(frozen=True)
class Stencil:
    """A graph that joins each pixel with those of the square around it, as weight planes."""

    weights: Float[Tensor, "K H W"]
    offsets: Offsets

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j; differentiable in x, repeatedly."""
        product: Tensor = _Product.apply(self, x)
        return product

    def normalised_product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum by D^-1/2 W D^-1/2; differentiable in x, repeatedly."""
        degree = multiply(self.weights, self.offsets, torch.ones_like(x[:1]))
        scale = torch.where(degree > 0, degree, 1.0).rsqrt()
        return scale * self.product(scale * x)

    def propagate(
        self, scores: Float[Tensor, "C N"], *, alpha: float, max_iter: int, tol: float
    ) -> tuple[Float[Tensor, "C N"], Float[Tensor, " C"], Int[Tensor, " C"], Bool[Tensor, " C"]]:
        """Solve (I - alpha D^-1/2 W D^-1/2) x = scores by conjugate gradients."""
        return solve(self.weights, self.offsets, scores, alpha, max_iter, tol)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Stencil, x: Tensor) -> Tensor:
        ctx.graph = graph
        return multiply(graph.weights, graph.offsets, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph.product(grad)  # the graph is symmetric


@triton.jit(do_not_specialize=["count", "height", "width", "reach"])
@no_type_check
def _fill_stencil(
    f, constants, weights, count, height, width, reach, FEATURES: tl.constexpr,
    SQUARED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    pixels = height.to(tl.int64) * width
    here = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    y, x = here // width, here % width
    tau = tl.load(constants + count)
    for k in range(count):
        # Plane k of the square holds offset k + 1 in reading order, counted from (0, 0).
        dy = (k + 1 + reach) // (2 * reach + 1)
        dx = k + 1 - dy * (2 * reach + 1)
        inside = (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        squares = tl.zeros([TILE], dtype=f.dtype.element_ty)
        own = f + here
        for _ in range(FEATURES):
            near = tl.load(own + (dy * width + dx), mask=inside, other=0)
            difference = tl.load(own, mask=inside, other=0) - near
            squares += difference * difference
            own += pixels
        distance = squares if SQUARED else tl.sqrt(tl.maximum(squares, 1e-30))
        weight = tl.exp(distance / -tau) * tl.load(constants + k)
        tl.store(weights + k * pixels + here, tl.where(inside, weight, 0), mask=here < pixels)
