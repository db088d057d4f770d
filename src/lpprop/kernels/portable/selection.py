"""The k largest values of each row, and their places."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import starmap

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["largest_of_rows"]

# Rows that a thread takes at a time: so few that they stay in the cache from the search for the
# k-th value to the comparisons with it.
_BLOCK_BYTES = 2**20


def largest_of_rows(
    values: Float[Tensor, "rows n"], k: int
) -> tuple[Int[Tensor, "rows k"], Float[Tensor, "rows k"]]:
    """Find the places of the k largest values of each row, and those values.

    They come in no order. Which of equal values are taken at the k-th place is arbitrary, but the
    same each time.

    >>> largest_of_rows(torch.tensor([[3.0, 1.0, 2.0, 4.0]]), 2)
    (tensor([[0, 3]]), tensor([[3., 4.]]))
    """
    gradient = values.requires_grad and torch.is_grad_enabled()
    if gradient or values.device.type != "cpu":
        found = values.topk(k, sorted=False)
        return found.indices, found.values
    rows, n = values.shape
    places = torch.empty((rows, k), dtype=torch.int64)
    largest = values.new_empty((rows, k))
    # NumPy finds the k-th value with vectors where the processor has them; torch.topk sorts pairs.
    every = (values.detach().numpy(), places.numpy(), largest.numpy())
    step = max(1, _BLOCK_BYTES // (n * values.element_size()))
    blocks = [tuple(x[i : i + step] for x in every) for i in range(0, rows, step)]
    threads = min(torch.get_num_threads(), len(blocks))
    if threads == 1:
        list(starmap(_fill, blocks))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(_fill, *zip(*blocks, strict=True)))
    return places, largest


def _fill(values: np.ndarray, places: np.ndarray, largest: np.ndarray) -> None:
    """Write the places of the largest values, and the values."""
    n, k = values.shape[1], places.shape[1]
    kth = np.partition(values, n - k, axis=1)[:, n - k, None]
    found = np.flatnonzero(values >= kth)
    if len(found) != places.size:  # further values equal the k-th, or some are not numbers
        top = torch.from_numpy(values).topk(k, sorted=False).indices.numpy()
        # In the order of rows without such values, whichever rows are in a block together.
        places[:] = np.sort(top, axis=1)
        largest[:] = np.take_along_axis(values, places, 1)
        return
    largest[:] = values.reshape(-1)[found].reshape(largest.shape)
    np.remainder(found.reshape(places.shape), n, out=places)
