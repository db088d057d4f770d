"""Attention between patches: sharpened, and brought to rows that sum to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_non_negative, check_positive_sums, check_tensors
from lpprop._core.errors import InputError, warn
from lpprop._core.options import check_above_0
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.scans import has_passed, mark_passed, values_are_checked

__all__ = [
    "TAKE_SOFTMAX",
    "as_rows",
    "check_sums",
    "fit_grid",
    "row_sums",
    "sharpen_attention",
    "sum_heads",
]

#: What to do about negative attention.
TAKE_SOFTMAX = "Take it after the softmax."

# Rows of a softmax sum to 1 within this, also if they were rounded to half precision.
_ROW_SLACK = 1e-2


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
    temperature = check_above_0("temperature", temperature)
    check_non_negative("attention", attention, TAKE_SOFTMAX)
    check_positive_sums("attention", attention, 2)
    A = attention.to(compute_dtype(attention)).contiguous()
    positive = A > 0
    logs = torch.where(positive, A, 1.0).log()
    logs = logs - logs.detach().masked_fill(~positive, -torch.inf).amax(-1, keepdim=True)
    # At least the smallest number, lest the temperature become 0 in the dtype.
    temperature = max(temperature, torch.finfo(A.dtype).tiny)
    logs = (logs / temperature).masked_fill(~positive, -torch.inf)
    return cast_back(logs.softmax(-1), attention, "attention")


def fit_grid(patches: int, like: tuple[int, int]) -> tuple[int, int] | None:
    """Return the grid of that many patches with the aspect ratio of another grid, or None.

    >>> fit_grid(4096, like=(16, 16)), fit_grid(4096, like=(12, 16))
    ((64, 64), None)
    """
    scale = math.sqrt(patches / (like[0] * like[1]))
    height, width = (max(1, round(scale * side)) for side in like)
    return (height, width) if height * width == patches else None


@full_precision
def as_rows(attention: Tensor) -> Float[Tensor, "B N N"]:
    """Average attention over its heads, if it has some, and make its rows sum to 1.

    Rows that sum to 1 within 0.01 are taken as they are, others are divided by their sums.

    Args:
        attention: (B, N, N), or (B, heads, N, N), non-negative, with a positive entry in every row.

    Returns:
        (B, N, N), contiguous; the attention itself if it is that, and all its rows sum to 1.

    Raises:
        InputError: another number of axes, values that are negative or not finite, or a row of
            zeros.

    Warns:
        InputWarning: rows that do not sum to 1.

    >>> as_rows(torch.tensor([[[[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]]]))
    tensor([[[0.7500, 0.2500],
             [0.2500, 0.7500]]])
    """
    heads = isinstance(attention, Tensor) and attention.ndim == 4
    check_tensors(attention=(attention, "B heads N N" if heads else "B N N"))
    divisors = None if has_passed(attention, "rows") else _find_divisors(attention)
    if heads or divisors is not None:
        if divisors is None:
            like = torch.ones((), dtype=compute_dtype(attention), device=attention.device)
            divisors = like.expand(*attention.shape[:-1], 1)
        if not heads:
            attention, divisors = attention[:, None], divisors[:, None]
        count = attention.shape[1]
        attention = sum_heads(attention, [1 / count] * count, divisors)
    attention = attention.contiguous()  # for the same bits of what is made of it, too
    for check in ("finite", "rows"):
        mark_passed(attention, check)
    return attention


def _find_divisors(attention: Float[Tensor, "... N N"]) -> Float[Tensor, "... N 1"] | None:
    """Return by what each row is to be divided, with a warning; None if all rows sum to 1."""
    if not values_are_checked():
        return None
    sums = check_sums("attention", attention)
    off = (sums - 1).abs() > _ROW_SLACK
    if not bool(off.any()):
        return None
    low, high = (float(bound) for bound in torch.aminmax(sums.detach()))
    warn(
        "attention rows",
        f"attention: {int(off.sum())} of {off.numel()} rows do not sum to 1, but to {low:.3g} to "
        f"{high:.3g}: they are divided by their sums. If that is meant, do so yourself: attention "
        "/ attention.sum(-1, keepdim=True); else take the attention after the softmax.",
    )
    return torch.where(off, sums, 1.0)


def check_sums(name: str, attention: Float[Tensor, "... M M"]) -> Float[Tensor, "... M 1"]:
    """Return the sums of the rows; refuse negative values, and sums that nothing divides by."""
    check_non_negative(name, attention, TAKE_SOFTMAX)
    check_positive_sums(name, attention, attention.ndim - 1)
    sums = row_sums(attention)
    info = torch.finfo(sums.dtype)
    low, high = (float(bound) for bound in torch.aminmax(sums.detach()))
    if values_are_checked() and (low < info.tiny or high > info.max):
        raise InputError.of(
            name,
            got=f"rows that sum to {low:.3g} to {high:.3g}",
            expected=f"sums that {sums.dtype} can hold",
            fix=f"Scale the rows first: {name} / {name}.amax(-1, keepdim=True).",
        )
    return sums


def row_sums(attention: Float[Tensor, "... M M"]) -> Float[Tensor, "... M 1"]:
    """Sum each row, in float32 at least and with the same bits for any strides."""
    dtype = compute_dtype(attention)
    heads = attention.unbind(1) if attention.ndim == 4 else [attention]
    # One head at a time, since a copy of all heads may not fit.
    sums = [head.contiguous().sum(-1, keepdim=True, dtype=dtype) for head in heads]
    return torch.stack(sums, 1) if attention.ndim == 4 else sums[0]


def sum_heads(
    attention: Float[Tensor, "B heads M M"],
    weights: Sequence[float],
    divisors: Float[Tensor, "B heads M 1"],
) -> Float[Tensor, "B M M"]:
    """Sum the heads with their weights, each row divided by its divisor, in the divisors' dtype."""
    total = torch.zeros((), dtype=divisors.dtype, device=attention.device)
    for head, weight, divisor in zip(attention.unbind(1), weights, divisors.unbind(1), strict=True):
        if weight:
            total = torch.addcmul(total, head.to(divisor.dtype), weight / divisor)
    return total
