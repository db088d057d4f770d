"""Joint bilateral upsampling on a GPU."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from lpprop.kernels.interface import Columns, Rows
from lpprop.kernels.triton.tiling import columns_of, count_tiles, group_of, tuning

__all__ = ["upsample"]


def upsample(
    x: Float[Tensor, "C h w"],
    points: Float[Tensor, "3 h w"],
    pixels: Float[Tensor, "3 y x"],
    rows: Rows,
    columns: Columns,
) -> Float[Tensor, "C y x"]:
    """Average the scores of the grid points around each pixel, without gradients."""
    x, points, pixels = (a.detach().contiguous() for a in (x, points, pixels))
    classes, (height, width) = len(x), pixels.shape[1:]
    result = x.new_empty((classes, height, width))
    (centre_y, near_y), (centre_x, near_x) = (
        (centres.contiguous(), exponents.to(x).contiguous())
        for centres, exponents in (rows, columns)
    )
    chosen = tuning()
    group = group_of(classes, chosen.upsampling_classes)
    groups = triton.cdiv(classes, group)
    programs = count_tiles(height, width, chosen.tile) * groups
    with torch.cuda.device_of(x):
        _mix_points[(programs,)](
            x, points, pixels, centre_y, near_y, centre_x, near_x, result, classes, *x.shape[1:],
            height, width, groups, near_y.shape[1] // 2, near_x.shape[1] // 2,
            group, columns_of(width), chosen.tile, **chosen.launch,
        )  # fmt: skip
    return result


@triton.jit(do_not_specialize=["classes", "h", "w", "height", "width", "groups"])
@no_type_check
def _mix_points(
    scores, points, pixels, centre_y, near_y, centre_x, near_x, result, classes, h, w, height,
    width, groups, REACH_Y: tl.constexpr, REACH_X: tl.constexpr, GROUP: tl.constexpr,
    COLUMNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    group, tile = tl.program_id(0) % groups, tl.program_id(0) // groups
    across = (width + COLUMNS - 1) // COLUMNS
    within = tl.arange(0, TILE)
    y = tile // across * (TILE // COLUMNS) + within // COLUMNS
    x = tile % across * COLUMNS + within % COLUMNS
    stored = (y < height) & (x < width)
    y, x = tl.minimum(y, height - 1), tl.minimum(x, width - 1)
    here = y.to(tl.int64) * width + x
    plane, cells = height.to(tl.int64) * width, h.to(tl.int64) * w
    c = group * GROUP + tl.arange(0, GROUP)
    own = tl.minimum(c, classes - 1).to(tl.int64)[:, None]

    # All pixels of a cell read the same points, so a warp reads few cache lines.
    red = tl.load(pixels + here)
    green = tl.load(pixels + plane + here)
    blue = tl.load(pixels + 2 * plane + here)
    row, column = tl.load(centre_y + y), tl.load(centre_x + x)
    exponents_y = near_y + y.to(tl.int64) * (2 * REACH_Y + 1) + REACH_Y
    exponents_x = near_x + x.to(tl.int64) * (2 * REACH_X + 1) + REACH_X

    # Weights are relative to the largest so far. It is finite from the start: the exponent is minus
    # infinity outside the grid, and minus infinity from itself is not a number.
    element = scores.dtype.element_ty
    largest = tl.full([TILE], -1e38, dtype=element)
    norm = tl.zeros([TILE], dtype=element)
    total = tl.zeros([GROUP, TILE], dtype=element)
    for dy in range(-REACH_Y, REACH_Y + 1):
        line = tl.minimum(tl.maximum(row + dy, 0), h - 1) * w
        spatial = tl.load(exponents_y + dy)
        for dx in range(-REACH_X, REACH_X + 1):
            point = line + tl.minimum(tl.maximum(column + dx, 0), w - 1)
            exponent = spatial + tl.load(exponents_x + dx)
            difference = red - tl.load(points + point)
            exponent -= difference * difference
            difference = green - tl.load(points + cells + point)
            exponent -= difference * difference
            difference = blue - tl.load(points + 2 * cells + point)
            exponent -= difference * difference

            new = tl.maximum(largest, exponent)
            # A new largest rescales the sums so far. So one pass computes each exponent once, and
            # the largest weight is 1, however it rounds.
            shrink, weight = tl.exp(largest - new), tl.exp(exponent - new)
            largest = new
            norm = norm * shrink + weight
            near = tl.load(scores + own * cells + point[None, :])
            total = total * shrink[None, :] + weight[None, :] * near
    both = (c < classes)[:, None] & stored[None, :]
    tl.store(result + own * plane + here[None, :], total / norm[None, :], mask=both)
