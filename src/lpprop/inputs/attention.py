"""Attention between patches: made from features, sharpened, or aggregated over heads and blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_non_negative, check_positive_sums, check_tensors
from lpprop._core.errors import InputError
from lpprop._core.memory import check_memory
from lpprop._core.options import check_number, check_size
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.scans import mark_passed
from lpprop.numerics.graphs import unit_features

__all__ = [
    "aggregate_attention",
    "attention_from_features",
    "average_heads",
    "fit_grid",
    "sharpen_attention",
]

_FIX = "Take it after the softmax."


@full_precision
def attention_from_features(
    feats: Float[Tensor, "B D h w"], temperature: float = 0.1
) -> Float[Tensor, "B N N"]:
    """Make attention from features: the softmax of their cosines.

    With x_i the L2-normalised feature of patch i,

        A_ij = exp(x_i . x_j / temperature) / sum_k exp(x_i . x_k / temperature)

    Args:
        feats: (B, D, h, w) features; need not be normalised.
        temperature: > 0; the smaller it is, the more a patch attends only to similar ones.

    Returns:
        (B, N, N) with N = h w patches in row-major order and rows that sum to 1, in the dtype of
        `feats`, float32 at least. Differentiable.

    Raises:
        InputError: not four axes, values that are not finite, a bad temperature, or too little
            memory for N x N.

    >>> feats = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]])
    >>> attention_from_features(feats, temperature=0.5)
    tensor([[[0.4683, 0.4683, 0.0634],
             [0.4683, 0.4683, 0.0634],
             [0.1065, 0.1065, 0.7870]]])
    """
    sizes = check_tensors(feats=(feats, "B D h w"))
    check_number("temperature", temperature, low=0, open_low=True)
    dtype, patches = compute_dtype(feats), sizes["h"] * sizes["w"]
    # The cosines and their softmax exist at the same time.
    check_memory("feats", patches, 2 * sizes["B"] * dtype.itemsize * patches**2, feats.device)
    x = unit_features(feats.flatten(2).mT, dtype)
    # Minus 1, the largest cosine, since the quotient would overflow for a tiny temperature.
    attention = ((x @ x.mT - 1) / _clamp_temperature(temperature, dtype)).softmax(-1)
    mark_passed(attention)  # a softmax of finite values
    return attention


@full_precision
def sharpen_attention(
    attention: Float[Tensor, "B N N"], temperature: float = 0.65
) -> Float[Tensor, "B N N"]:
    """Sharpen attention below temperature 1, or flatten it above.

        A'_ij = softmax over j of log(A_ij) / temperature,   0 where A_ij = 0

    Args:
        attention: (B, N, N) non-negative, with a positive entry in every row.
        temperature: > 0; M2N2 uses 0.65.

    Returns:
        (B, N, N) with rows that sum to 1, in the dtype of `attention`. Differentiable where
        A_ij > 0.

    Raises:
        InputError: not (B, N, N), values that are negative or not finite, a row of zeros, or a
            bad temperature.

    >>> sharpen_attention(torch.tensor([[[0.8, 0.2], [0.5, 0.5]]]), temperature=0.5)
    tensor([[[0.9412, 0.0588],
             [0.5000, 0.5000]]])
    """
    check_tensors(attention=(attention, "B N N"))
    check_number("temperature", temperature, low=0, open_low=True)
    check_non_negative("attention", attention, _FIX)
    check_positive_sums("attention", attention, 2)
    A = attention.to(compute_dtype(attention))
    positive = A > 0
    logs = torch.where(positive, A, 1.0).log()
    logs = logs - logs.detach().masked_fill(~positive, -torch.inf).amax(-1, keepdim=True)
    logs = (logs / _clamp_temperature(temperature, A.dtype)).masked_fill(~positive, -torch.inf)
    return cast_back(logs.softmax(-1), attention, "attention")


def _clamp_temperature(temperature: float, dtype: torch.dtype) -> float:
    """Keep a temperature from becoming 0 in the dtype."""
    return max(temperature, torch.finfo(dtype).tiny)


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
            total = total + _resample(_sum_heads(x, share, dtype), grid, size)
    return cast_back(total / total.sum(-1, keepdim=True), first, "maps")


def fit_grid(patches: int, like: tuple[int, int]) -> tuple[int, int] | None:
    """Return the grid of that many patches with the aspect ratio of another grid, or None.

    >>> fit_grid(4096, like=(16, 16)), fit_grid(4096, like=(12, 16))
    ((64, 64), None)
    """
    scale = math.sqrt(patches / (like[0] * like[1]))
    height, width = (max(1, round(scale * side)) for side in like)
    return (height, width) if height * width == patches else None


@full_precision
def average_heads(attention: Float[Tensor, "B heads N N"]) -> Float[Tensor, "B N N"]:
    """Average attention over its heads; every row of the result sums to 1."""
    check_tensors(attention=(attention, "B heads N N"))
    check_non_negative("attention", attention, _FIX)
    check_positive_sums("attention", attention, 3)
    heads = attention.shape[1]
    return _sum_heads(attention, [1 / heads] * heads, compute_dtype(attention))


def _sum_heads(
    attention: Float[Tensor, "B heads M M"], weights: list[float], dtype: torch.dtype
) -> Float[Tensor, "B M M"]:
    """Sum the heads with their weights, after each row is divided by its sum."""
    total = torch.zeros((), dtype=dtype, device=attention.device)
    for head, weight in zip(attention.unbind(1), weights, strict=True):
        if weight:  # one head at a time, since a copy of all heads in this dtype may not fit
            head = head.to(dtype)
            total = torch.addcmul(total, head, weight / head.sum(-1, keepdim=True))
    return total


def _resample(
    attention: Float[Tensor, "B M M"], grid: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "B N N"]:
    """Resample the keys and then the queries; rows keep their sum."""
    if grid == size:
        return attention

    def resample_last_axis(x: Tensor) -> Tensor:
        # Antialiased: otherwise a coarser grid would drop the attention between its points.
        return F.interpolate(x.unflatten(-1, grid), size, mode="bilinear", antialias=True).flatten(
            2
        )

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
        check_non_negative(name, tensor, _FIX)
        check_positive_sums(name, tensor, tensor.ndim - 1)
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
            shares.append([check_number(name, one, low=0) for one in weight])
        else:
            shares.append([check_number(name, weight, low=0) / count] * count)
    total = sum(map(sum, shares))
    if total == 0:
        raise InputError.of(
            "weights", got="zeros", expected="a positive one", fix="Change weights."
        )
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
