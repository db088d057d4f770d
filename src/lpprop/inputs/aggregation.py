"""Aggregation of attention over the heads of several blocks, on one grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.memory import check_memory
from lpprop._core.options import check_from_0, check_size
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop.inputs.attention import check_sums, fit_grid, row_sums, sum_heads

__all__ = ["aggregate_attention"]


@full_precision
def aggregate_attention(
    maps: Sequence[Tensor],
    weights: Sequence[float | Sequence[float]] | None = None,
    size: tuple[int, int] | None = None,
    *,
    grids: Sequence[tuple[int, int]] | None = None,
) -> Float[Tensor, "B N N"]:
    """Average attention over the heads of several blocks, on one grid (Eq. 5).

        A = sum over blocks b and heads h of w_bh S_bh,   rows of S and of A summing to 1

    A map on another grid than `size` is resampled bilinearly over its keys and over its queries.

    Args:
        maps: attention per block, (B, heads, M, M) or (B, M, M), non-negative; M may differ.
        weights: per block a number, or a list with a number per head; equal if None. They are
            scaled to sum to 1. The paper uses the first two up blocks of Stable Diffusion 2 at 0.5
            each.
        size: grid (h, w) of the result; that of the finest map if None.
        grids: grid (h, w) of each map. If None, the grid of its M patches with the aspect ratio of
            `size`, or the square one if `size` is None too.

    Returns:
        (B, N, N) with N = h w and rows that sum to 1, in the dtype of the first map.
        Differentiable.

    Raises:
        InputError: no map, shapes that do not match, values that are negative or not finite, a
            row of zeros, weights that are negative or all zero, a grid that does not fit, or too
            little memory.

    >>> coarse, fine = torch.rand(1, 8, 16, 16).softmax(-1), torch.rand(1, 8, 64, 64).softmax(-1)
    >>> aggregate_attention([coarse, fine], weights=[0.5, 0.5], size=(8, 8)).shape
    torch.Size([1, 64, 64])
    """
    maps = _check_maps(maps)
    shares = _normalise_weights(weights, [x.shape[1] for x in maps])
    sides = _find_grids(maps, grids, size)
    if size is None:
        size = max(sides, key=lambda grid: grid[0] * grid[1])
    size = check_size("size", size)
    first = maps[0]
    dtype, patches = compute_dtype(first), size[0] * size[1]
    largest = max(patches, *(x.shape[-1] for x in maps))
    # At the peak: the result, the sums before and after a head, the head in this dtype, and its
    # product.
    check_memory("maps", largest, 5 * len(first) * dtype.itemsize * largest**2, first.device)

    total = torch.zeros((), dtype=dtype, device=first.device)
    for x, share, grid in zip(maps, shares, sides, strict=True):
        if any(share):
            # Heads are summed first: resampling is linear, and one map costs less than many.
            total = total + _resample(sum_heads(x, share, row_sums(x).to(dtype)), grid, size)
    total = total.contiguous()  # kernels sum in another order for another layout
    return cast_back(total / total.sum(-1, keepdim=True), first, "maps")


def _resample(
    attention: Float[Tensor, "B M M"], grid: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "B N N"]:
    """Resample the keys and then the queries; rows keep their sum."""
    if grid == size:
        return attention

    def resample_last_axis(x: Tensor) -> Tensor:
        # Antialiased: otherwise a coarser grid would drop the attention between its points.
        x = x.contiguous().unflatten(-1, grid)
        return F.interpolate(x, size, mode="bilinear", antialias=True).flatten(2)

    attention = attention.contiguous()
    keys = resample_last_axis(attention)
    keys = keys * (attention.sum(-1, keepdim=True) / keys.sum(-1, keepdim=True))
    return resample_last_axis(keys.mT).mT


def _check_maps(maps: object) -> list[Tensor]:
    _check_list("maps", maps, None, "Pass [attention] for a single one.")
    assert isinstance(maps, (list, tuple))
    checked = {}
    for number, given in enumerate(maps):
        heads = isinstance(given, Tensor) and given.ndim == 4
        name = f"maps[{number}]"
        checked[name] = (
            given,
            f"B heads{number} M{number} M{number}" if heads else f"B M{number} M{number}",
        )
    check_tensors(**checked)
    for name, (tensor, _) in checked.items():
        check_sums(name, tensor)
    return [x if x.ndim == 4 else x[:, None] for x in maps]


def _normalise_weights(
    weights: Sequence[float | Sequence[float]] | None, heads: list[int]
) -> list[list[float]]:
    """Return the weights of the heads per block, all of which together sum to 1."""
    given = [1.0] * len(heads) if weights is None else weights
    _check_list("weights", given, len(heads), "Give each map its weight, 0 to leave it out.")
    shares = []
    for number, (weight, count) in enumerate(zip(given, heads, strict=True)):
        name = f"weights[{number}]"
        if isinstance(weight, Sequence):
            if len(weight) != count:
                raise InputError.of(
                    name,
                    got=f"{len(weight)} entries",
                    expected=f"{count}, one per head",
                    fix="Give one number for all heads, or one for each.",
                )
            shares.append([check_from_0(name, one) for one in weight])
        else:
            shares.append([check_from_0(name, weight) / count] * count)
    largest = max(map(max, shares))
    if largest == 0:
        raise InputError.of(
            "weights", got="zeros", expected="a positive one", fix="Change weights."
        )
    # By the largest first, since the sum of large weights may overflow.
    shares = [[one / largest for one in share] for share in shares]
    total = sum(map(sum, shares))
    return [[one / total for one in share] for share in shares]


def _find_grids(
    maps: list[Tensor], grids: Sequence[tuple[int, int]] | None, size: tuple[int, int] | None
) -> list[tuple[int, int]]:
    """Return the grid of each map, as given or with the aspect ratio of the result."""
    counts = [x.shape[-1] for x in maps]
    if grids is not None:
        _check_list("grids", grids, len(maps), "Give each map its (h, w).")
        sides = [check_size(f"grids[{number}]", grid) for number, grid in enumerate(grids)]
    else:
        like = (1, 1) if size is None else check_size("size", size)
        sides = [fit_grid(count, like) or (0, 0) for count in counts]
    for number, (count, (height, width)) in enumerate(zip(counts, sides, strict=True)):
        if height * width != count:
            expected, fix = "a square number", "Pass grids=, the (h, w) of each map."
            if grids is not None:
                expected = f"{height} x {width}, as grids[{number}] says"
                fix = f"Correct grids[{number}]."
            elif size is not None:
                expected = f"a grid with the aspect ratio of {size[0]} x {size[1]}"
            raise InputError.of(
                f"maps[{number}]", got=f"{count} patches", expected=expected, fix=fix
            )
    return sides


def _check_list(name: str, value: object, length: int | None, fix: str) -> None:
    """Refuse anything but a list of `length` items, or of one or more if it is None."""
    wanted = "a list of one or more" if length is None else f"a list of {length}, one per map"
    if not isinstance(value, (list, tuple)):
        raise InputError.of(name, got=type(value).__name__, expected=wanted, fix=fix)
    if len(value) != (length or max(len(value), 1)):
        raise InputError.of(name, got=f"a list of {len(value)}", expected=wanted, fix=fix)
