"""How much of each patch a class or a region has, for pixels on any other grid."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from lpprop._core.precision import in_double

__all__ = ["areas_of_labels", "areas_of_masks"]

# Bounds the table of the areas of labels, and the masks that are floats at one time.
_AT_ONCE = 2**27


class _Axis(NamedTuple):
    """The pieces into which the edges of pixels and of patches cut one axis together."""

    pixel: Int64[Tensor, " n"]
    patch: Int64[Tensor, " n"]
    length: Int64[Tensor, " n"]  # in units of 1 / patches of a pixel
    pixels: int
    patches: int


def _cut(pixels: int, patches: int, device: torch.device) -> _Axis:
    # In these units all edges are integers, so that the lengths are exact, and their sums too.
    of_pixels = torch.arange(pixels + 1, device=device) * patches
    of_patches = torch.arange(patches + 1, device=device) * pixels
    edges = torch.cat([of_pixels, of_patches]).unique()
    starts = edges[:-1]
    return _Axis(starts // patches, starts // pixels, edges.diff(), pixels, patches)


def areas_of_labels(
    labels: Int[Tensor, "H W"], count: int, grid: tuple[int, int]
) -> Float[Tensor, "K N"]:
    """Return the share of each patch's area that each label has.

        share_kp = area of the pixels of label k within patch p / area of the patch

    Pixels and patches span the same image from edge to edge; a pixel that the edge of a patch cuts
    counts for both, each with its part. Areas are added as integers: the order does not matter.

    Args:
        labels: one label per pixel; those outside [0, count) belong to none.
        count: the number K of labels.
        grid: (h, w), N = h w.

    >>> areas_of_labels(torch.tensor([[0, 0, 1], [0, -1, 1]]), 2, (1, 2))
    tensor([[0.8333, 0.1667],
            [0.0000, 0.6667]])
    """
    device = labels.device
    y, x = (_cut(n, m, device) for n, m in zip(labels.shape, grid, strict=True))
    cells = grid[0] * grid[1]
    unit = y.pixels * x.pixels
    found = torch.empty(count, cells, dtype=torch.float32, device=device)
    at_once = max(1, _AT_ONCE // (8 * cells))
    pieces = labels[y.pixel[:, None], x.pixel].long()
    patch = y.patch[:, None] * grid[1] + x.patch
    area = y.length[:, None] * x.length
    for first in range(0, count, at_once):
        last = min(count, first + at_once)
        table = torch.zeros((last - first) * cells, dtype=torch.int64, device=device)
        inside = (pieces >= first) & (pieces < last)
        places = (pieces[inside] - first) * cells + patch[inside]
        table.index_add_(0, places, area[inside])
        found[first:last] = (in_double(table) / unit).view(-1, cells)
    return found


def areas_of_masks(
    masks: Bool[Tensor, "M H W"] | Float[Tensor, "M H W"], grid: tuple[int, int]
) -> Float[Tensor, "M N"]:
    """Return the share of each patch's area that each mask has; a soft mask's values are averaged.

    >>> areas_of_masks(torch.tensor([[[True, True, False]]]), (1, 2))
    tensor([[1.0000, 0.3333]])
    """
    device = masks.device
    dtype = torch.promote_types(masks.dtype, torch.float32)
    rows, columns = (
        _overlaps(_cut(n, m, torch.device("cpu"))).to(device, dtype)
        for n, m in zip(masks.shape[1:], grid, strict=True)
    )
    at_once = max(1, _AT_ONCE // (dtype.itemsize * masks.shape[1] * masks.shape[2]))
    parts = [rows @ part.to(dtype) @ columns.mT for part in torch.split(masks, at_once)]
    return torch.cat(parts).flatten(1)


def _overlaps(axis: _Axis) -> Float[Tensor, "m n"]:
    """Return the share of each patch (row) that each pixel (column) has, along one axis."""
    found = torch.zeros(axis.patches, axis.pixels, dtype=torch.float64)
    found[axis.patch, axis.pixel] = axis.length.double() / axis.pixels
    return found
