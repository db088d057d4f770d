"""Nearest neighbours on another grid, for what has no means: labels, numbers, masks."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor

__all__ = ["resample_nearest"]


def resample_nearest(
    maps: Shaped[Tensor, "*rest y x"], size: tuple[int, int]
) -> Shaped[Tensor, "*rest H W"]:
    """Take at each pixel of a size the value that lies at its centre.

    The grids share their outer edges: row i of H is row floor((i + 1/2) y / H).

    >>> resample_nearest(torch.tensor([[1, 2, 3]]), (2, 5))
    tensor([[1, 1, 2, 3, 3],
            [1, 1, 2, 3, 3]])
    """
    if tuple(maps.shape[-2:]) == size:
        return maps
    rows, columns = (
        # In integers, which do not round.
        (2 * torch.arange(to, device=maps.device) + 1) * of // (2 * to)
        for of, to in zip(maps.shape[-2:], size, strict=True)
    )
    return maps.index_select(-2, rows).index_select(-1, columns)
