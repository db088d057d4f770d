"""Products of few rows with a large matrix, such as one step of a few classes on a Markov chain."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["multiply_rows"]

# Below so many entries of the matrix one thread is as fast as two.
_FEWEST_ENTRIES = 2**18


def multiply_rows(p: Float[Tensor, "n K"], matrix: Float[Tensor, "K M"]) -> Float[Tensor, "n M"]:
    """Compute p @ matrix with a part of the columns for each thread of a CPU.

    Libraries that compute one row by one thread, and few rows by blocks for many, take up to twice
    as long.

    >>> multiply_rows(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    tensor([[7., 8.]])
    """
    threads = torch.get_num_threads()
    gradient = torch.is_grad_enabled() and (p.requires_grad or matrix.requires_grad)
    small = matrix.numel() < _FEWEST_ENTRIES
    if gradient or small or threads == 1 or p.device.type != "cpu":
        return p @ matrix
    whole = matrix.shape[1] - matrix.shape[1] % threads
    parts = matrix[:, :whole].unflatten(1, (threads, -1)).transpose(0, 1)
    product = torch.bmm(p.expand(threads, *p.shape), parts).transpose(0, 1).flatten(1)
    return torch.cat([product, p @ matrix[:, whole:]], 1) if whole < matrix.shape[1] else product
