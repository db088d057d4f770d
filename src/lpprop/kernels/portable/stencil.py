"""The pixel graph as a stencil.

A stencil is the graph that joins each pixel with the pixels of the square around it. Its weights
are symmetric, so only half of the offsets are stored: weights[k, y, x] joins (y, x) with
(y, x) + offsets[k], and is 0 where that lies outside the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop.kernels.interface import Offsets

__all__ = [
    "Stencil",
    "build_stencil",
    "forecast_stencil",
    "half_offsets",
    "stencil_product",
    "stencil_weights",
]

# A band of rows of x stays in a CPU's cache while the 168 neighbours pass over it. Measured on two
# cores: 3 to 12 MiB are alike; 1 MiB, and whole images, take up to twice as long.
_BAND_BYTES = 6 * 2**20


def half_offsets(radius: int, height: int, width: int) -> Offsets:
    """List the (dy, dx) after (0, 0) in reading order, within a square and the image's size."""
    ry, rx = min(radius, height - 1), min(radius, width - 1)
    return tuple((dy, dx) for dy in range(ry + 1) for dx in range(-rx, rx + 1) if dy > 0 or dx > 0)


def forecast_stencil(
    classes: int, size: tuple[int, int], features: int, neighbours: int, itemsize: int
) -> int:
    """Estimate the bytes of a stencil: a plane per pair of neighbours, and some to make it."""
    return (neighbours // 2 + 3 * features) * math.prod(size) * itemsize


@dataclass(frozen=True)
class Stencil:
    """A graph that joins each pixel with those of the square around it, as weight planes."""

    weights: Float[Tensor, "K H W"]
    offsets: Offsets

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j."""
        image = x.unflatten(-1, self.weights.shape[1:])
        return stencil_product(self.weights, image, self.offsets).flatten(1)


def build_stencil(
    f: Float[Tensor, "F H W"],
    offsets: Offsets,
    spatial: tuple[float, ...],
    tau: float,
    *,
    squared: bool = False,
) -> Stencil:
    """Join pixels at these offsets, both ways, by exp(-|f_i - f_j| / tau) times their factor."""
    return Stencil(stencil_weights(f, offsets, spatial, tau, squared=squared), offsets)


def stencil_weights(
    f: Float[Tensor, "F H W"],
    offsets: Offsets,
    spatial: tuple[float, ...],
    tau: float,
    *,
    squared: bool = False,
) -> Float[Tensor, "K H W"]:
    """Compute exp(-|f_i - f_j| / tau) times the offset's own factor; 0 outside the image.

    With `squared`, the distance is squared: exp(-|f_i - f_j|^2 / tau).
    """
    tau = max(tau, torch.finfo(f.dtype).tiny)  # equal features would give 0 / 0
    weights: Tensor = _StencilWeights.apply(f, offsets, spatial, tau, squared)
    return weights


def stencil_product(
    weights: Float[Tensor, "K H W"], x: Float[Tensor, "C H W"], offsets: Offsets
) -> Float[Tensor, "C H W"]:
    """Sum over each pixel's neighbours by their weights, without a matrix of edges."""
    product: Tensor = _StencilProduct.apply(weights, x, offsets)
    return product


class _StencilWeights(torch.autograd.Function):
    """Fill the planes in place; the backward pass recomputes distances instead of storing them."""

    @staticmethod
    def forward(
        ctx: Any,
        f: Tensor,
        offsets: Offsets,
        spatial: tuple[float, ...],
        tau: float,
        squared: bool,
    ) -> Tensor:
        weights = f.new_zeros((len(offsets), *f.shape[1:]))
        for plane, offset, factor in zip(weights, offsets, spatial, strict=True):
            here, there = _pair(offset, *f.shape[1:])
            distance = _square_distance(f, here, there)
            if not squared:
                distance.sqrt_()
            plane[here] = distance.div_(-tau).exp_().mul_(factor)
        ctx.save_for_backward(f, weights)
        ctx.offsets, ctx.tau, ctx.squared = offsets, tau, squared
        return weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        f, weights = ctx.saved_tensors
        grad_f = torch.zeros_like(f)
        for k, offset in enumerate(ctx.offsets):
            here, there = _pair(offset, *f.shape[1:])
            # dw/df_i = -w / (tau |f_i - f_j|) (f_i - f_j), and its opposite for f_j; with a
            # squared distance, -2 w / tau (f_i - f_j).
            slope = grad[k][here] * weights[k][here]
            if ctx.squared:
                slope = slope * (-2 / ctx.tau)
            else:
                distance = _square_distance(f, here, there).sqrt_()
                slope = slope / (-ctx.tau * distance)
                slope = torch.where(distance > 0, slope, 0.0)  # equal features have no direction
            pull = slope * (f[:, here[0], here[1]] - f[:, there[0], there[1]])
            grad_f[:, here[0], here[1]] += pull
            grad_f[:, there[0], there[1]] -= pull
        return grad_f, None, None, None, None


class _StencilProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor, offsets: Offsets) -> Tensor:
        ctx.save_for_backward(weights, x)
        ctx.offsets = offsets
        return _gather_neighbours(weights, x, offsets)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, x = ctx.saved_tensors
        grad_weights = grad_x = None
        if ctx.needs_input_grad[1]:
            grad_x = stencil_product(weights, grad, ctx.offsets)  # the graph is symmetric
        if ctx.needs_input_grad[0]:
            grad_weights = torch.zeros_like(weights)
            for plane, offset in zip(grad_weights, ctx.offsets, strict=True):
                here, there = _pair(offset, *x.shape[1:])
                plane[here] = torch.linalg.vecdot(
                    grad[:, here[0], here[1]], x[:, there[0], there[1]], dim=0
                )
                plane[here] += torch.linalg.vecdot(
                    grad[:, there[0], there[1]], x[:, here[0], here[1]], dim=0
                )
        return grad_weights, grad_x, None


def _gather_neighbours(weights: Tensor, x: Tensor, offsets: Offsets) -> Tensor:
    channels, height, width = x.shape
    result = torch.zeros_like(x)
    rows = height
    if x.device.type == "cpu":
        rows = max(1, _BAND_BYTES // (channels * width * x.element_size()))
    for top in range(0, height, rows):
        end = min(top + rows, height)
        for plane, (dy, dx) in zip(weights, offsets, strict=True):
            here, there = _span(dx, width)
            # The neighbour at +offset, for the rows of this band that have one ...
            low = min(end, height - dy)
            if low > top:
                near = x[:, top + dy : low + dy, there]
                result[:, top:low, here].addcmul_(plane[top:low, here], near)
            # ... and the one at -offset, which stores the weight of the pair.
            high = max(top, dy)
            if high < end:
                source = slice(high - dy, end - dy)
                result[:, high:end, there].addcmul_(plane[source, here], x[:, source, here])
    return result


def _span(offset: int, side: int) -> tuple[slice, slice]:
    """Return the places along an axis that have a neighbour at this offset, and the neighbours."""
    ahead, behind = max(offset, 0), max(-offset, 0)
    return slice(behind, side - ahead), slice(ahead, side - behind)


def _pair(
    offset: tuple[int, int], height: int, width: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the pixels that have a neighbour at this offset, and the neighbours."""
    (here_y, there_y), (here_x, there_x) = _span(offset[0], height), _span(offset[1], width)
    return (here_y, here_x), (there_y, there_x)


def _square_distance(f: Tensor, here: tuple[slice, slice], there: tuple[slice, slice]) -> Tensor:
    difference = f[:, here[0], here[1]] - f[:, there[0], there[1]]
    return difference.square_().sum(0)
