"""Products of the patch graph: similarities and sparse matrices."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lpprop.kernels.portable.products import multiply

__all__ = ["csr_product", "gram_matrix", "symmetric_csr"]

# For fewer rows, and 4 threads or more, oneDNN divides sums among threads: bits would depend on how
# many there are.
_FEWEST_ROWS = 2048
# Graphs of so few nodes, those of one view of an image, are compressed without SciPy: its import
# takes 55 ms of a process's first call, and saves 2 ms of each.
_FEW_NODES = 1536


def gram_matrix(x: Float[Tensor, "N D"]) -> Float[Tensor, "N N"]:
    """Multiply x by its transpose."""
    if x.requires_grad or x.device.type != "cpu":
        return x @ x.mT
    # One half mirrors the other. Blocks of an eighth save most of that half, and fit the cache.
    n = len(x)
    gram = x.new_empty((n, n))
    product = multiply if n >= _FEWEST_ROWS else torch.matmul
    step = -(-n // 8)
    for start in range(0, n, step):
        end = start + step
        block = product(x[start:end], x[start:].mT)
        gram[start:end, start:] = block
        gram[end:, start:end] = block[:, step:].mT
    return gram


def symmetric_csr(
    neighbours: Int[Tensor, "N k"], weights: Float[Tensor, "N k"]
) -> tuple[Int[Tensor, " rows"], Int[Tensor, " E"], Float[Tensor, " E"]]:
    """Compress W + W^T, where W has an edge from each node to each of its neighbours."""
    n, k = neighbours.shape
    if neighbours.device.type == "cpu" and not weights.requires_grad:
        if n <= _FEW_NODES:
            weights = weights.detach()
            return _compress(weights.new_zeros((n, n)).scatter_(1, neighbours, weights))
        # SciPy transposes and adds without sorting, several times faster, but without gradients.
        from scipy.sparse import csr_array

        # 32-bit indices, where they can count the edges: products read a third less.
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
    # The key sorts edges by row, then column; the two directions of a pair share a key and add up.
    key, place = torch.cat([tail * n + head, head * n + tail]).unique(return_inverse=True)
    values = weights.new_zeros(len(key)).index_add(0, place, weights.flatten().repeat(2))
    crow = F.pad(torch.bincount(key // n, minlength=n).cumsum(0), (1, 0))
    return crow, key % n, values


def _compress(
    directed: Float[Tensor, "N N"],
) -> tuple[Int[Tensor, " rows"], Int[Tensor, " E"], Float[Tensor, " E"]]:
    """Compress W + W^T, given W as a matrix."""
    both = (directed + directed.mT).numpy()
    places = np.flatnonzero(both)
    crow = np.zeros(len(both) + 1, np.int32)
    np.cumsum(np.count_nonzero(both, axis=1), out=crow[1:])
    arrays = (crow, (places % len(both)).astype(np.int32), both.reshape(-1)[places])
    crow_, col, values = (torch.from_numpy(array) for array in arrays)
    return crow_, col, values


def csr_product(
    crow: Int[Tensor, " rows"],
    col: Int[Tensor, " E"],
    values: Float[Tensor, " E"],
    x: Float[Tensor, "C N"],
) -> Float[Tensor, "C N"]:
    """Multiply the rows of x by a symmetric sparse matrix."""
    product: Tensor = _CSRProduct.apply(crow, col, values, x)
    return product


class _CSRProduct(torch.autograd.Function):
    """Sparse times dense; the gradient in the values has the stored entries only."""

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
            for grad_c, x_c in zip(grad, x, strict=True):  # per class: E values at a time
                grad_values += grad_c[row] * x_c[col]
        return None, None, grad_values, grad_x
