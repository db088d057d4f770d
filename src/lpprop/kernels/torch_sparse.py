"""Sparse products by torch-sparse (extra `torch-sparse`), in its own C++ and CUDA."""

from __future__ import annotations

import importlib.util

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["csr_product", "is_installed"]


def is_installed() -> bool:
    """Tell whether the extra is there, without importing it."""
    return importlib.util.find_spec("torch_sparse") is not None


def csr_product(
    crow: Int[Tensor, " rows"],
    col: Int[Tensor, " E"],
    values: Float[Tensor, " E"],
    x: Float[Tensor, "C N"],
) -> Float[Tensor, "C N"]:
    """Multiply the rows of x by a symmetric sparse matrix."""
    from torch_sparse import SparseTensor

    n = x.shape[-1]
    matrix = SparseTensor(
        rowptr=crow.long(),
        col=col.long(),
        value=values,
        sparse_sizes=(n, n),
        is_sorted=True,
        trust_data=True,
    )
    product: Tensor = (matrix @ x.mT.contiguous()).mT
    return product
