"""The hot loops in plain PyTorch: every device, every floating dtype, the reference for the rest.

A stencil is the graph that joins each pixel with the pixels of the square around it. Its weights
are symmetric, so only half of the offsets are stored: weights[k, y, x] joins (y, x) with
(y, x) + offsets[k], and is 0 where that lies outside the image.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "csr_product",
    "gram_matrix",
    "half_offsets",
    "stencil_product",
    "stencil_weights",
    "symmetric_csr",
]

Offsets = tuple[tuple[int, int], ...]

# A band of rows of x stays in the cache of a CPU while the 168 neighbours pass over it. Measured on
# two cores: 3 to 12 MiB are alike, 1 MiB and whole images take up to twice as long.
_BAND_BYTES = 6 * 2**20
# The smallest squared distance whose root is taken, so that the root's infinite slope at 0 stays
# out of the gradient. It is far below what any tau that a user may want tells from 0.
_TINY = 1e-30


def half_offsets(radius: int, height: int, width: int) -> Offsets:
    """List the (dy, dx) after (0, 0) in reading order within a square, as far as the image goes."""
    ry, rx = min(radius, height - 1), min(radius, width - 1)
    return tuple((dy, dx) for dy in range(ry + 1) for dx in range(-rx, rx + 1) if dy > 0 or dx > 0)


def stencil_weights(
    f: Float[Tensor, "F H W"], offsets: Offsets, spatial: tuple[float, ...], tau: float
) -> Float[Tensor, "K H W"]:
    """Weights exp(-|f_i - f_j| / tau) times the offset's own factor; 0 outside the image."""
    weights: Tensor = _StencilWeights.apply(f, offsets, spatial, tau)
    return weights


def stencil_product(
    weights: Float[Tensor, "K H W"], x: Float[Tensor, "C H W"], offsets: Offsets
) -> Float[Tensor, "C H W"]:
    """Sum each pixel's neighbours with their weights, without a matrix of edges."""
    product: Tensor = _StencilProduct.apply(weights, x, offsets)
    return product


def gram_matrix(x: Float[Tensor, "N D"]) -> Float[Tensor, "N N"]:
    """Multiply x by its transpose."""
    if x.requires_grad or x.device.type != "cpu":
        return x @ x.mT
    # One half mirrors the other; an eighth at a time saves most of it and stays in the cache.
    n = len(x)
    gram = x.new_empty((n, n))
    step = -(-n // 8)
    for start in range(0, n, step):
        end = start + step
        block = x[start:end] @ x[start:].mT
        gram[start:end, start:] = block
        gram[end:, start:end] = block[:, step:].mT
    return gram


def symmetric_csr(
    neighbours: Int[Tensor, "N k"], weights: Float[Tensor, "N k"]
) -> tuple[Int[Tensor, " rows"], Int[Tensor, " E"], Float[Tensor, " E"]]:
    """Compress W + W^T, where W has an edge from each node to each of its neighbours."""
    n, k = neighbours.shape
    if neighbours.device.type == "cpu" and not weights.requires_grad:
        # SciPy transposes and adds without a sort, several times faster, but has no gradient.
        from scipy.sparse import csr_array

        # 32-bit indices, as long as they can number the edges: products read a third less.
        index = np.int32 if 2 * n * k < 2**31 else np.int64
        starts = np.arange(n + 1, dtype=index) * k
        columns = neighbours.flatten().numpy().astype(index)
        directed = csr_array((weights.detach().flatten().numpy(), columns, starts), shape=(n, n))
        both = directed + directed.T.tocsr()
        arrays = (both.indptr, both.indices, both.data)
        crow, col, values = (torch.from_numpy(array) for array in arrays)
        return crow, col, values
    head, tail = neighbours.flatten(), torch.arange(n, device=neighbours.device)
    tail = tail.repeat_interleave(k)
    # An edge found from both ends adds up; the key sorts edges by row, then column.
    key, place = torch.cat([tail * n + head, head * n + tail]).unique(return_inverse=True)
    values = weights.new_zeros(len(key)).index_add(0, place, weights.flatten().repeat(2))
    crow = F.pad(torch.bincount(key // n, minlength=n).cumsum(0), (1, 0))
    return crow, key % n, values


def csr_product(
    crow: Int[Tensor, " rows"],
    col: Int[Tensor, " E"],
    values: Float[Tensor, " E"],
    x: Float[Tensor, "C N"],
) -> Float[Tensor, "C N"]:
    """Multiply the rows of x by a symmetric sparse matrix."""
    product: Tensor = _CSRProduct.apply(crow, col, values, x)
    return product


class _StencilWeights(torch.autograd.Function):
    """Fills the planes in place; the backward pass recomputes distances instead of storing them."""

    @staticmethod
    def forward(
        ctx: Any, f: Tensor, offsets: Offsets, spatial: tuple[float, ...], tau: float
    ) -> Tensor:
        weights = f.new_zeros((len(offsets), *f.shape[1:]))
        for plane, offset, factor in zip(weights, offsets, spatial, strict=True):
            here, there = _pair(offset, *f.shape[1:])
            plane[here] = _distance(f, here, there).div_(-tau).exp_().mul_(factor)
        ctx.save_for_backward(f, weights)
        ctx.offsets, ctx.tau = offsets, tau
        return weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        f, weights = ctx.saved_tensors
        grad_f = torch.zeros_like(f)
        for k, offset in enumerate(ctx.offsets):
            here, there = _pair(offset, *f.shape[1:])
            # dw/df_i = -w / (tau |f_i - f_j|) (f_i - f_j), and its opposite for f_j.
            slope = grad[k][here] * weights[k][here] / (-ctx.tau * _distance(f, here, there))
            pull = slope * (f[:, here[0], here[1]] - f[:, there[0], there[1]])
            grad_f[:, here[0], here[1]] += pull
            grad_f[:, there[0], there[1]] -= pull
        return grad_f, None, None, None


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
    """Places along an axis that have a neighbour at this offset, and those neighbours."""
    ahead, behind = max(offset, 0), max(-offset, 0)
    return slice(behind, side - ahead), slice(ahead, side - behind)


def _pair(
    offset: tuple[int, int], height: int, width: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Pixels that have a neighbour at this offset, and those neighbours."""
    (here_y, there_y), (here_x, there_x) = _span(offset[0], height), _span(offset[1], width)
    return (here_y, here_x), (there_y, there_x)


def _distance(f: Tensor, here: tuple[slice, slice], there: tuple[slice, slice]) -> Tensor:
    difference = f[:, here[0], here[1]] - f[:, there[0], there[1]]
    return difference.square_().sum(0).clamp_(min=_TINY).sqrt_()


class _CSRProduct(torch.autograd.Function):
    """Sparse times dense, whose gradient in the values stays on the stored entries."""

    @staticmethod
    def forward(ctx: Any, crow: Tensor, col: Tensor, values: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(crow, col, values, x)
        n = x.shape[-1]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            matrix = torch.sparse_csr_tensor(crow, col, values, (n, n), check_invariants=False)
        return (matrix @ x.mT.contiguous()).mT

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor | None, Tensor | None]:
        crow, col, values, x = ctx.saved_tensors
        grad_values = grad_x = None
        if ctx.needs_input_grad[3]:
            grad_x = csr_product(crow, col, values, grad)  # the graph is symmetric
        if ctx.needs_input_grad[2]:
            row = torch.repeat_interleave(crow.diff())
            grad_values = torch.zeros_like(values)
            for grad_c, x_c in zip(grad, x, strict=True):  # a class at a time: E values each
                grad_values += grad_c[row] * x_c[col]
        return None, None, grad_values, grad_x
