"""Graphs over patches and over pixels, and the linear system of propagation over them.

Every graph is symmetric, has no self-loops, and has one method: `product(x)`, which sums weight
times x over each node's neighbours, for x of shape (C, N).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.memory import available_bytes
from lpprop._core.options import check_choice
from lpprop._core.precision import compute_dtype
from lpprop.kernels import portable, torch_sparse
from lpprop.kernels.interface import Graph, IteratingGraph, Kernels, PropagatingGraph

__all__ = [
    "CSRGraph",
    "DenseGraph",
    "Graph",
    "IteratingGraph",
    "PropagatingGraph",
    "check_storage",
    "forecast_graph",
    "gaussian_stencil",
    "nearest_neighbours",
    "spatial_affinity",
    "stencil_graph",
    "symmetric_graph",
    "unit_features",
]

# Similarities up to this size are computed as one matrix, half of which mirrors the other.
_MATRIX_BYTES = 64 * 2**20
# Larger ones are computed in blocks of rows of this size, so that there is no N x N matrix. Glibc
# keeps blocks below 32 MiB for the next one; the system takes time to hand out new pages.
_BLOCK_BYTES = 30 * 2**20
# Where memory is short, a block takes this share of what is free: the rest is for the edges.
_FREE_SHARE = 1 / 4
# The forecast counts on blocks that are no larger than this.
_SMALL_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class DenseGraph:
    """A graph stored as its full matrix."""

    weights: Float[Tensor, "N N"]

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j."""
        return x @ self.weights.mT  # the graph is symmetric, and contiguous rows are faster


@dataclass(frozen=True)
class CSRGraph:
    """A graph stored as compressed sparse rows, multiplied by PyTorch or by torch-sparse."""

    crow: Int[Tensor, " rows"]
    col: Int[Tensor, " E"]
    values: Float[Tensor, " E"]
    multiply: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = portable.csr_product

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j."""
        return self.multiply(self.crow, self.col, self.values, x)


# --------------------------------------------------------------------------- patches


def nearest_neighbours(
    feats: Float[Tensor, "N D"], k: int, dtype: torch.dtype
) -> tuple[Int[Tensor, "N k"], Float[Tensor, "N k"]]:
    """Find the k nodes of highest cosine similarity to each node, itself included.

    The search is exact, in smaller blocks where memory is short. The features are normalised in
    their own dtype and compared in `dtype`.

    Returns:
        Their indices in no order, and their similarities. Ties at the k-th place are broken
        arbitrarily but reproducibly. A zero feature has similarity 0 to every node.
    """
    unit = unit_features(feats.contiguous(), dtype)
    n, k = len(unit), min(k, len(unit))
    free = available_bytes(unit.device)
    room = _MATRIX_BYTES if free is None else int(_FREE_SHARE * free)
    row = n * unit.element_size()
    if n * row <= min(_MATRIX_BYTES, room):
        return portable.largest_of_rows(portable.gram_matrix(unit), k)
    rows = max(1, min(_BLOCK_BYTES, room) // row)
    blocks = [
        portable.largest_of_rows(portable.multiply(block, unit.mT), k) for block in unit.split(rows)
    ]
    indices, values = zip(*blocks, strict=True)
    return torch.cat(indices), torch.cat(values)


def unit_features(
    feats: Float[Tensor, "*nodes D"], dtype: torch.dtype
) -> Float[Tensor, "*nodes D"]:
    """Scale each feature to length 1 in its own dtype, then cast; a zero feature stays zero."""
    # Divided by the largest entry first: squares of large or tiny features overflow or vanish.
    feats = feats.to(compute_dtype(feats))
    largest = feats.detach().abs().amax(-1, keepdim=True)
    return F.normalize((feats / torch.where(largest > 0, largest, 1.0)).to(dtype), dim=-1)


def spatial_affinity(distance: Tensor, kind: str, sigma: float, distance_power: float) -> Tensor:
    """Return the affinity of places at distance d: exp(-sigma d^q) or max(1 - sigma d^q, 0)."""
    # At sigma = 0 the distance has no effect, not even if its power overflows to infinity.
    decay = sigma * distance**distance_power if sigma > 0 else torch.zeros_like(distance)
    return torch.exp(-decay) if kind == "rbf" else (1 - decay).clamp(min=0)


def symmetric_graph(
    neighbours: Int[Tensor, "N k"], weights: Float[Tensor, "N k"], storage: str
) -> Graph:
    """Build W + W^T with an empty diagonal from the directed edges i -> neighbours[i].

    Args:
        neighbours: heads of the edges, each at most once per row.
        weights: weights of the edges.
        storage: "dense", "csr", "torch-sparse", or "auto": dense if the matrix is small or well
            filled.
    """
    n, k = neighbours.shape
    node = torch.arange(n, device=neighbours.device)
    weights = weights.masked_fill(neighbours == node[:, None], 0)
    storage = _choose_storage(storage, n, k, weights.device, gradient=weights.requires_grad)
    if storage == "dense":
        directed = weights.new_zeros((n, n)).scatter(1, neighbours, weights)
        return DenseGraph(directed + directed.mT)
    multiply = torch_sparse.csr_product if storage == "torch-sparse" else portable.csr_product
    return CSRGraph(*portable.symmetric_csr(neighbours, weights), multiply)


def check_storage(name: str, storage: object) -> str:
    """Return a storage that `symmetric_graph` knows and that is installed; refuse others."""
    storage = check_choice(name, storage, ("auto", "dense", "csr", "torch-sparse"))
    if storage == "torch-sparse" and not torch_sparse.is_installed():
        raise InputError.of(
            name,
            got="'torch-sparse', which is not installed",
            expected="an installed one",
            fix="Run pip install --no-build-isolation torch-scatter torch-sparse, or pass 'csr'.",
        )
    return storage


def _choose_storage(storage: str, n: int, k: int, device: torch.device, *, gradient: bool) -> str:
    """Return the storage that "auto" stands for: dense where that is faster.

    On a CPU a sparse product is faster if less than about a third of the matrix is filled. With
    gradients, and on a GPU, a sparse graph takes longer to build; memory then sets the limit.
    """
    if storage != "auto":
        return storage
    fast_sparse = device.type == "cpu" and not gradient
    return "dense" if n <= max(1024, (4 if fast_sparse else 16) * k) else "csr"


def forecast_graph(
    n: int, k: int, storage: str, itemsize: int, device: torch.device, *, gradient: bool
) -> int:
    """Estimate the bytes of a graph of n nodes and k neighbours, the search for them included.

    The coefficients are measured peaks: indices of 64 bits, weights, and what sorting them takes.
    """
    matrix, edges = n * n * itemsize, n * min(k, n)
    block = min(max(_SMALL_BLOCK_BYTES, n * itemsize), matrix)
    storage = _choose_storage(storage, n, k, device, gradient=gradient)
    if storage == "dense":
        return 3 * matrix + edges * (22 * itemsize if gradient else 10 + 4 * itemsize)
    return block + edges * (40 * itemsize if gradient else 36 + 4 * itemsize)


# --------------------------------------------------------------------------- pixels


def stencil_graph(
    f: Float[Tensor, "F H W"],
    *,
    tau: float,
    r: int,
    sigma: float,
    distance_power: float,
    kernels: Kernels = portable,
) -> Graph:
    """Join each pixel with the others of the r x r square around it, by similarity of features.

    w_ij = exp(-|f_i - f_j| / tau) exp(-sigma d_ij^q) for |dy| <= r//2 and |dx| <= r//2. The kernels
    of a backend store and multiply the weights.
    """
    offsets = portable.half_offsets(r // 2, *f.shape[1:])
    distance = torch.tensor([math.hypot(dy, dx) for dy, dx in offsets], dtype=torch.float64)
    spatial = spatial_affinity(distance, "rbf", sigma, distance_power)
    return kernels.build_stencil(f, offsets, tuple(spatial.tolist()), tau)


def gaussian_stencil(
    f: Float[Tensor, "F H W"], *, theta: float, r: int, kernels: Kernels = portable
) -> Graph:
    """Join each pixel with the others of the r x r square around it, by Gaussians.

    w_ij = exp(-|f_i - f_j|^2 / 2) exp(-d_ij^2 / (2 theta^2)), d the distance in pixels.
    """
    offsets = portable.half_offsets(r // 2, *f.shape[1:])
    distance = torch.tensor([math.hypot(dy, dx) for dy, dx in offsets], dtype=torch.float64)
    spatial = torch.exp(-(distance / theta).square() / 2)
    return kernels.build_stencil(f, offsets, tuple(spatial.tolist()), 2.0, squared=True)
