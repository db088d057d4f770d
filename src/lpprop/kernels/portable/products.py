"""Products of large matrices on a CPU: those of features, and steps of classes on a Markov chain.

PyTorch has two libraries for them. It leaves products in float32 to MKL, which uses no AVX-512 on
AMD's processors, where oneDNN, its library for networks, takes half of the time.
"""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["multiply", "multiply_rows"]

# Below so many entries of the matrix one thread is as fast as two, and oneDNN's start counts.
_FEWEST_ENTRIES = 2**18
# With fewer rows the matrix is read from memory for hardly any work, by any library.
_FEWEST_ROWS = 4
# oneDNN adds all terms of a sum one by one. Parts of so many terms, added up, leave a third of its
# rounding, as much as MKL, for a sixth of its time.
_MOST_TERMS = 256


def multiply(a: Float[Tensor, "n K"], b: Float[Tensor, "K M"]) -> Float[Tensor, "n M"]:
    """Compute a @ b by the library that is faster.

    >>> multiply(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    tensor([[7., 8.]])
    """
    return _multiply_by_onednn(a, b) if _suits_onednn(a, b) else a @ b


def multiply_rows(p: Float[Tensor, "n K"], matrix: Float[Tensor, "K M"]) -> Float[Tensor, "n M"]:
    """Compute p @ matrix where p has few rows.

    MKL computes one row by one thread, and few rows by blocks for many, which takes up to twice as
    long as one product with a part of the columns per thread.

    >>> multiply_rows(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    tensor([[7., 8.]])
    """
    if _suits_onednn(p, matrix):
        if not matrix.is_contiguous():  # its transpose is, whose parts are not
            return _multiply_by_onednn(p, matrix)
        parts = zip(p.split(_MOST_TERMS, 1), matrix.split(_MOST_TERMS), strict=True)
        product = _multiply_by_onednn(*next(parts))
        for part in parts:
            product += _multiply_by_onednn(*part)
        return product
    threads = torch.get_num_threads()
    small = matrix.numel() < _FEWEST_ENTRIES
    if small or threads == 1 or p.device.type != "cpu" or _differentiates(p, matrix):
        return p @ matrix
    whole = matrix.shape[1] - matrix.shape[1] % threads
    columns = matrix[:, :whole].unflatten(1, (threads, -1)).transpose(0, 1)
    product = torch.bmm(p.expand(threads, *p.shape), columns).transpose(0, 1).flatten(1)
    return torch.cat([product, p @ matrix[:, whole:]], 1) if whole < matrix.shape[1] else product


def _suits_onednn(a: Tensor, b: Tensor) -> bool:
    """Tell whether oneDNN can compute a @ b, and is faster."""
    large = len(a) >= _FEWEST_ROWS and b.numel() >= _FEWEST_ENTRIES
    float32 = a.dtype == b.dtype == torch.float32
    able = large and float32 and a.device.type == b.device.type == "cpu" and _has_onednn()
    # With other strides it takes a hundred times as long.
    dense = b.is_contiguous() or b.mT.is_contiguous()
    return able and dense and not _differentiates(a, b)


def _multiply_by_onednn(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.mT, None, "none", [], "")
    return product


def _differentiates(*tensors: Tensor) -> bool:
    """Tell whether a gradient, backward or forward, passes through an operation on tensors."""
    backward = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return backward or any(forward_ad.unpack_dual(x).tangent is not None for x in tensors)


@cache
def _has_onednn() -> bool:
    """Tell whether oneDNN is there, and the processor has the instructions that make it faster."""
    fast = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return fast and hasattr(torch.ops.mkldnn, "_linear_pointwise")
