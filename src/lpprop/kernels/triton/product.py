"""The product of a pixel graph with all classes, alone or as part of a conjugate gradient step."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from lpprop.kernels.interface import Offsets
from lpprop.kernels.triton.tiling import columns_of, count_tiles, group_of, tuning

__all__ = ["System", "launch_product", "multiply", "reach_of"]

# Neighbours of one row are unrolled up to this reach, so that each address is one address plus a
# constant. Wider stencils would only take longer to compile.
_UNROLLED = 8

#: For A p: D^1/2, alpha D^-1/2, the partial sums to write, and which groups still run.
System = tuple[Tensor, Tensor, Tensor, Tensor]


def multiply(
    weights: Float[Tensor, "K H W"], offsets: Offsets, x: Float[Tensor, "C N"]
) -> Float[Tensor, "C N"]:
    """Sum over each pixel's neighbours j of weight_ij x_j."""
    x = x.contiguous()
    result = torch.empty_like(x)
    with torch.cuda.device_of(x):
        launch_product(
            weights, offsets, x, result, group_of(len(x), tuning().product_classes), None
        )
    return result


def launch_product(
    weights: Tensor, offsets: Offsets, x: Tensor, result: Tensor, group: int, system: System | None
) -> None:
    """Write W x; or, for x = D^-1/2 p, write A p and its partial products with p."""
    height, width = weights.shape[1:]
    groups, (reach_y, reach_x) = triton.cdiv(len(x), group), reach_of(offsets)
    root, damping, partials, alive = system or (x, x, x, x)
    chosen = tuning()
    tiles = count_tiles(height, width, chosen.tile)
    _gather_neighbours[(tiles * groups,)](
        x, weights, result, root, damping, partials, alive, len(x), height, width, groups,
        tiles, reach_y, reach_x, reach_x <= _UNROLLED, system is not None, group,
        columns_of(width), chosen.tile, **chosen.launch,
    )  # fmt: skip


def reach_of(offsets: Offsets) -> tuple[int, int]:
    """Return how far a square of offsets reaches down and across."""
    return (max(dy for dy, _ in offsets), max(dx for _, dx in offsets)) if offsets else (0, 0)


@triton.jit
@no_type_check
def _add_pair(total, ahead, behind, plane, x, width, below, above, dx, shift):
    """Add the neighbours at (dy, dx) and at -(dy, dx); the latter store the weight of the pair."""
    there = below & (x + dx >= 0) & (x + dx < width)
    weight = tl.load(plane, mask=there, other=0)
    total += weight[None, :] * tl.load(ahead + dx, mask=there[None, :], other=0)
    there = above & (x >= dx) & (x - dx < width)
    weight = tl.load(plane - (shift + dx), mask=there, other=0)
    return total + weight[None, :] * tl.load(behind - dx, mask=there[None, :], other=0)


@triton.jit
@no_type_check
def _add_rows(
    total, at, weights, pixels, y, x, height, width, dy,
    FIRST: tl.constexpr, REACH: tl.constexpr, UNROLLED: tl.constexpr,
):  # fmt: skip
    """Add the neighbours dy rows below and above, from column FIRST on."""
    below, above = (y + dy < height) & (x < width), (y >= dy) & (y - dy < height)
    shift = dy * width
    ahead, behind = at + shift, at - shift
    # Offset (dy, dx) has plane dy (2 REACH + 1) + dx - 1.
    plane = weights + (dy * (2 * REACH + 1) + FIRST - 1) * pixels
    if UNROLLED:
        for dx in tl.static_range(FIRST, REACH + 1):
            total = _add_pair(total, ahead, behind, plane, x, width, below, above, dx, shift)
            plane += pixels
    else:
        for dx in range(FIRST, REACH + 1):
            total = _add_pair(total, ahead, behind, plane, x, width, below, above, dx, shift)
            plane += pixels
    return total


@triton.jit(do_not_specialize=["classes", "height", "width", "groups", "tiles", "reach"])
@no_type_check
def _gather_neighbours(
    vectors, weights, result, root, damping, partials, alive, classes, height, width, groups, tiles,
    reach, REACH: tl.constexpr, UNROLLED: tl.constexpr, SYSTEM: tl.constexpr, GROUP: tl.constexpr,
    COLUMNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    # The groups of a tile run one after the other, while its weights are in the cache.
    group, tile = tl.program_id(0) % groups, tl.program_id(0) // groups
    if SYSTEM and tl.load(alive + group) == 0:
        return
    across = (width + COLUMNS - 1) // COLUMNS
    within = tl.arange(0, TILE)
    y = tile // across * (TILE // COLUMNS) + within // COLUMNS
    x = tile % across * COLUMNS + within % COLUMNS
    pixels = height.to(tl.int64) * width
    here = y.to(tl.int64) * width + x
    c = group * GROUP + tl.arange(0, GROUP)
    places = tl.minimum(c, classes - 1).to(tl.int64)[:, None] * pixels + here[None, :]
    at, planes = vectors + places, weights + here
    stored = (y < height) & (x < width)
    both = (c < classes)[:, None] & stored[None, :]

    total = tl.zeros([GROUP, TILE], dtype=vectors.dtype.element_ty)
    total = _add_rows(total, at, planes, pixels, y, x, height, width, 0, 1, REACH, UNROLLED)
    for dy in range(1, reach + 1):
        total = _add_rows(
            total, at, planes, pixels, y, x, height, width, dy, -REACH, REACH, UNROLLED
        )
    if SYSTEM:
        p = tl.load(at, mask=both, other=0) * tl.load(root + here, mask=stored, other=0)[None, :]
        total = p - tl.load(damping + here, mask=stored, other=0)[None, :] * total
        products = tl.sum(p * total, axis=1)  # p is 0 outside the image
        tl.store(partials + c.to(tl.int64) * tiles + tile, products, mask=c < classes)
    tl.store(result + places, total, mask=both)
