"""Connected components of label maps, as regions."""

from __future__ import annotations

from functools import partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.options import check_integer, checked
from lpprop._core.precision import uncompiled
from lpprop._core.tensors import as_int64

__all__ = ["components"]


@uncompiled
@checked(min_area=partial(check_integer, low=0))
def components(labels: Int[Tensor, "*B H W"], *, min_area: int = 0) -> Int[Tensor, "*B H W"]:
    """Number the connected components of equal labels: each is a region.

    Pixels of one label are connected where they share a side or a corner.

    Args:
        labels: integers, (B, H, W), or (H, W) for one image; negative ones are in no component.
        min_area: components of fewer pixels are left out.

    Returns:
        The component of each pixel in the shape of `labels`, int64 on its device; -1 in none. Those
        of an image are numbered from 0, in row-major order of their first pixels.

    Raises:
        InputError: labels that are not integers (B, H, W) or (H, W), or a negative min_area.

    >>> labels = torch.tensor([[5, 5, 0, 5], [0, 0, 0, 5], [-1, 0, 5, 0]])
    >>> components(labels)
    tensor([[ 0,  0,  1,  2],
            [ 1,  1,  1,  2],
            [-1,  1,  2,  1]])
    >>> components(labels, min_area=3)
    tensor([[-1, -1,  0,  1],
            [ 0,  0,  0,  1],
            [-1,  0,  1,  0]])
    """
    single = isinstance(labels, Tensor) and labels.ndim == 2
    check_tensors(labels=(labels, "H W" if single else "B H W", ("integer",)))
    images = as_int64("labels", labels[None] if single else labels).cpu().numpy()
    found = torch.from_numpy(np.stack([_number(image, min_area) for image in images]))
    return (found[0] if single else found).to(labels.device)


def _number(labels: NDArray[np.int64], min_area: int) -> NDArray[np.int64]:
    """Number the components of one image."""
    # Imported here, since scipy would slow `import lpprop` down.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    height, width = labels.shape
    pixel = np.arange(height * width).reshape(height, width)
    starts, ends = [], []
    # One graph for all labels: OpenCV would take a pass per label.
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(None, height - down), slice(max(-right, 0), width - max(right, 0)))
        there = (slice(down, None), slice(max(right, 0), width + min(right, 0)))
        alike = labels[here] == labels[there]
        starts.append(pixel[here][alike])
        ends.append(pixel[there][alike])
    ij = np.concatenate(starts), np.concatenate(ends)
    graph = coo_array((np.ones(len(ij[0]), bool), ij), shape=(pixel.size, pixel.size))
    component = connected_components(graph, directed=False)[1]
    _, first, which, area = np.unique(
        component, return_index=True, return_inverse=True, return_counts=True
    )
    kept = (labels.ravel()[first] >= 0) & (area >= min_area)
    order = np.flatnonzero(kept)[np.argsort(first[kept])]
    number = np.full(len(first), -1)
    number[order] = np.arange(len(order))
    return cast("NDArray[np.int64]", number[which].reshape(height, width))
