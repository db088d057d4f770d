"""Graphs over patches and over pixels, and the linear system of propagation over them.

Every graph is symmetric, has no self-loops, and offers one thing: `product(x)`, the sum over each
node's neighbours of weight times x, for x of shape (C, N).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lpprop.checks import check_choice, check_image, check_tensors
from lpprop.errors import InputError
from lpprop.kernels import portable, torch_sparse
from lpprop.precision import compute_dtype, full_precision

__all__ = [
    "CSRGraph",
    "DenseGraph",
    "Graph",
    "PropagatingGraph",
    "check_storage",
    "fitted_patch_size",
    "lab_features",
    "nearest_neighbours",
    "patch_centres",
    "propagation_system",
    "spatial_affinity",
    "stencil_graph",
    "symmetric_graph",
    "unit_features",
]

# Similarities are made this many bytes of rows at a time, so no N x N matrix appears when N is
# large.
_SIMILARITY_BYTES = 64 * 2**20


@runtime_checkable
class Graph(Protocol):
    """A symmetric weighted graph over N nodes."""

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j."""
        ...


@runtime_checkable
class PropagatingGraph(Graph, Protocol):
    """A graph that has conjugate gradients of its own, without gradients."""

    def normalised_product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours by D^-1/2 W D^-1/2; differentiable in x."""
        ...

    def propagate(
        self, labels: Float[Tensor, "C N"], *, alpha: float, max_iter: int, tol: float
    ) -> tuple[Float[Tensor, "C N"], Float[Tensor, " C"], Int[Tensor, " C"], Bool[Tensor, " C"]]:
        """Return what `solvers.cg` does on this graph's `propagation_system`."""
        ...


@dataclass(frozen=True)
class DenseGraph:
    """A graph stored as its full matrix."""

    weights: Float[Tensor, "N N"]

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j."""
        return x @ self.weights.mT  # the graph is symmetric, and rows are read in a row


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


def propagation_system(
    graph: Graph, ones: Float[Tensor, "1 N"], alpha: float
) -> Callable[[Tensor], Tensor]:
    """Return x -> (I - alpha D^-1/2 S D^-1/2) x.

    D are the row sums of S; a node without edges counts 1.
    """
    if isinstance(graph, PropagatingGraph):
        return lambda x: torch.sub(x, graph.normalised_product(x), alpha=alpha)
    degree = graph.product(ones)
    scale = torch.where(degree > 0, degree, 1.0).rsqrt()
    return lambda x: torch.addcmul(x, scale, graph.product(scale * x), value=-alpha)


# --------------------------------------------------------------------------- patches


def nearest_neighbours(
    feats: Float[Tensor, "N D"], k: int, dtype: torch.dtype
) -> tuple[Int[Tensor, "N k"], Float[Tensor, "N k"]]:
    """Find the k nodes of highest cosine similarity to each, itself among them.

    The search is exact. The features are normalised in their own dtype, compared in `dtype`.

    Returns:
        Their indices in no order, and their similarities. Ties at the k-th place fall either way,
        but the same way every time. A zero feature is similar to nothing, at similarity 0.
    """
    unit = unit_features(feats.contiguous(), dtype)
    n, k = len(unit), min(k, len(unit))
    rows = max(1, _SIMILARITY_BYTES // (n * unit.element_size()))
    if rows >= n:
        found = portable.gram_matrix(unit).topk(k, sorted=False)
        return found.indices, found.values
    blocks = [(block @ unit.mT).topk(k, sorted=False) for block in unit.split(rows)]
    return torch.cat([block.indices for block in blocks]), torch.cat([b.values for b in blocks])


def unit_features(
    feats: Float[Tensor, "*nodes D"], dtype: torch.dtype
) -> Float[Tensor, "*nodes D"]:
    """Scale each feature to length 1 in its own dtype, then cast; a zero feature stays zero."""
    # By the largest entry first: the squares of large or tiny features would overflow or vanish.
    feats = feats.to(compute_dtype(feats))
    largest = feats.detach().abs().amax(-1, keepdim=True)
    return F.normalize((feats / torch.where(largest > 0, largest, 1.0)).to(dtype), dim=-1)


def patch_centres(
    grid: tuple[int, int], patch_size: float, corners: Float[Tensor, "n 2"]
) -> Float[Tensor, "N 2"]:
    """Centres (y, x) in pixels of the patches of n windows: y1 + p//2 + r p, x1 + p//2 + c p."""
    rows, columns = (torch.arange(side, device=corners.device) for side in grid)
    steps = torch.cartesian_prod(rows, columns).to(corners.dtype)
    centres = corners[:, None] + patch_size // 2 + steps * patch_size
    return centres.flatten(0, 1)


def fitted_patch_size(patch_size: float, grid: tuple[int, int], pixels: tuple[int, int]) -> float:
    """Return the patch size at which a grid spans an image, given the one that was assumed.

    The assumed size stays where grid x patch_size is within a patch of the image's size. Elsewhere
    it is scaled by their ratio, so that distances are in pixels of that image.

    Raises:
        InputError: height and width call for different ratios, more than a patch apart.
    """
    spans = list(zip(grid, pixels, strict=True))
    if all(abs(side * patch_size - length) < patch_size for side, length in spans):
        return patch_size
    # A side of n patches of size p fits a length within a patch if (n - 1) p < length < (n + 1) p.
    low = max(length / (side + 1) for side, length in spans)
    high = min(length / (side - 1) if side > 1 else math.inf for side, length in spans)
    if low >= high:
        raise InputError.of(
            "feats",
            got=f"a grid of {grid[0]} x {grid[1]} patches for {pixels[0]} x {pixels[1]} pixels",
            expected="patches that are square in the image",
            fix="Pass the image as the backbone saw it (after its resizing or cropping), and "
            "size= for the size that the scores should have.",
        )
    ratio = math.sqrt(math.prod(pixels) / math.prod(grid))
    return ratio if low < ratio < high else (low + min(high, 2 * low)) / 2


def spatial_affinity(distance: Tensor, kind: str, sigma: float, distance_power: float) -> Tensor:
    """Affinity of two places by their distance d: exp(-sigma d^q), or max(1 - sigma d^q, 0)."""
    # A distance whose power overflows is infinitely far, but not where distance plays no part.
    decay = sigma * distance**distance_power if sigma > 0 else torch.zeros_like(distance)
    return torch.exp(-decay) if kind == "rbf" else (1 - decay).clamp(min=0)


def symmetric_graph(
    neighbours: Int[Tensor, "N k"], weights: Float[Tensor, "N k"], storage: str
) -> Graph:
    """Join the directed edges i -> neighbours[i] into W + W^T with an empty diagonal.

    Args:
        neighbours: heads of the edges, each at most once a row.
        weights: their weights.
        storage: "dense", "csr", "torch-sparse", or "auto": dense where the matrix is small or
            well filled.
    """
    n, k = neighbours.shape
    node = torch.arange(n, device=neighbours.device)
    weights = weights.masked_fill(neighbours == node[:, None], 0)
    if storage == "auto":
        storage = "dense" if n <= _dense_limit(weights, k) else "csr"
    if storage == "dense":
        directed = weights.new_zeros((n, n)).scatter(1, neighbours, weights)
        return DenseGraph(directed + directed.mT)
    multiply = torch_sparse.csr_product if storage == "torch-sparse" else portable.csr_product
    return CSRGraph(*portable.symmetric_csr(neighbours, weights), multiply)


def check_storage(name: str, storage: object) -> None:
    """Refuse a storage that `symmetric_graph` does not know, or that is not installed."""
    check_choice(name, storage, ("auto", "dense", "csr", "torch-sparse"))
    if storage == "torch-sparse" and not torch_sparse.is_installed():
        raise InputError.of(
            name,
            got="'torch-sparse', which is not installed",
            expected="an installed one",
            fix="Run pip install --no-build-isolation torch-scatter torch-sparse, or pass 'csr'.",
        )


def _dense_limit(weights: Tensor, k: int) -> int:
    """Return the number of nodes up to which a dense graph is faster than a sparse one.

    On a CPU a sparse product wins below a fill of about a third. Where gradients are wanted, and on
    a GPU, the sparse graph takes longer to build, and the limit is what a dense one takes to store.
    """
    fast_sparse = weights.device.type == "cpu" and not weights.requires_grad
    return max(1024, (4 if fast_sparse else 16) * k)


# --------------------------------------------------------------------------- pixels


@full_precision
def lab_features(image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Colour features of the pixel graph: f = Lab(image) / (100, 128, 128).

    CIE Lab under D65, so that distances are close to perceived ones; L lies in [0, 1], a and b in
    about [-1, 1]. Concatenate other features, such as depth, to use them together.

    Args:
        image: RGB in [0, 1], shape (B, 3, H, W).

    Returns:
        Features (B, 3, H, W) in the image's dtype. Differentiable.

    Raises:
        InputError: not three channels, values that are not finite or outside [0, 1].

    >>> lab_features(torch.ones(1, 3, 1, 1)).flatten()           # white: L = 100, a = b = 0
    tensor([ 1.0000e+00, ...])
    """
    # Imported here: kornia takes a third of a second that `import lpprop` should not.
    from lpprop._core.optional import import_hint

    with import_hint("kornia cannot be imported: pip install kornia"):
        from kornia.color import rgb_to_lab

    check_tensors(image=(image, "B 3 H W"))
    check_image(image)
    lab = rgb_to_lab(image.to(compute_dtype(image)))
    return (lab / lab.new_tensor([100.0, 128.0, 128.0])[:, None, None]).to(image.dtype)


def stencil_graph(
    f: Float[Tensor, "F H W"],
    *,
    tau: float,
    r: int,
    sigma: float,
    distance_power: float,
    kernels: ModuleType = portable,
) -> Graph:
    """Join each pixel with the others of the r x r square around it, by likeness of features.

    w_ij = exp(-|f_i - f_j| / tau) exp(-sigma d_ij^q) for |dy| <= r//2 and |dx| <= r//2, kept and
    multiplied by one of the backends' kernels.
    """
    offsets = portable.half_offsets(r // 2, *f.shape[1:])
    distance = torch.tensor([math.hypot(dy, dx) for dy, dx in offsets], dtype=torch.float64)
    spatial = spatial_affinity(distance, "rbf", sigma, distance_power)
    graph: Graph = kernels.stencil(f, offsets, tuple(spatial.tolist()), tau)
    return graph
