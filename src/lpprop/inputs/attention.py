"""Attention between patches: made from features, sharpened, brought to rows that sum to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_non_negative, check_positive_sums, check_tensors
from lpprop._core.errors import InputError, warn
from lpprop._core.memory import check_memory
from lpprop._core.options import check_above_0, check_from_0
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.scans import has_passed, mark_passed, values_are_checked
from lpprop.numerics.graphs import unit_features

__all__ = [
    "TAKE_SOFTMAX",
    "as_rows",
    "attention_from_features",
    "check_sums",
    "fit_grid",
    "proxy_attention",
    "row_sums",
    "sharpen_attention",
    "sum_heads",
]

#: What to do about negative attention.
TAKE_SOFTMAX = "Take it after the softmax."

# Rows of a softmax sum to 1 within this, also if they were rounded to half precision.
_ROW_SLACK = 1e-2


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

    Warns:
        InputWarning: features that are the same everywhere, whose attention is 1 / N.

    >>> feats = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]])
    >>> attention_from_features(feats, temperature=0.5)
    tensor([[[0.4683, 0.4683, 0.0634],
             [0.4683, 0.4683, 0.0634],
             [0.1065, 0.1065, 0.7870]]])
    """
    temperature = check_above_0("temperature", temperature)
    x = _unit_patches(feats)
    # Minus 1, the largest cosine, since the quotient would overflow for a tiny temperature.
    attention = ((x @ x.mT - 1) / _clamp(temperature, x.dtype)).softmax(-1)
    mark_passed(attention)  # a softmax of finite values
    return attention


@full_precision
def proxy_attention(
    feats: Float[Tensor, "B D h w"], *, beta: float = 1.2, gamma: float = 3.0
) -> Float[Tensor, "B N N"]:
    """Make attention from features as ProxyCLIP does: a softmax over the similar patches only.

    With c_ij the cosine of patches i and j, and m the mean of all c_ij of the image,

        A_ij = softmax over j of s_ij = gamma (c_ij - beta m),   0 where s_ij < 0

    A patch for which that leaves none, not even itself, attends to itself alone. This happens where
    beta m exceeds 1, since all features are alike, or where a feature is zero.

    Lan et al., "ProxyCLIP", ECCV 2024, with the defaults of their code. That takes m over a whole
    batch, and here it is per image; and rows without a patch are NaN there.

    Args:
        feats: (B, D, h, w) features; need not be normalised.
        beta: >= 0; the higher it is, the fewer patches a patch attends to.
        gamma: > 0; the higher it is, the more a patch prefers the most similar ones.

    Returns:
        (B, N, N) with N = h w patches in row-major order and rows that sum to 1, in the dtype of
        `feats`, float32 at least. Differentiable.

    Raises:
        InputError: not four axes, values that are not finite, a bad option, or too little memory
            for N x N.

    Warns:
        InputWarning: patches that attend to themselves alone since all cosines are masked, or
            features that are the same everywhere.

    >>> feats = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.5, 1.0]]]])
    >>> proxy_attention(feats)
    tensor([[[0.5785, 0.4215, 0.0000],
             [0.4215, 0.5785, 0.0000],
             [0.0000, 0.0000, 1.0000]]])
    """
    beta, gamma = check_from_0("beta", beta), check_above_0("gamma", gamma)
    x = _unit_patches(feats)
    cosines = x @ x.mT
    beta, gamma = (min(x, torch.finfo(cosines.dtype).max) for x in (beta, gamma))
    masked = cosines < beta * cosines.mean((1, 2), keepdim=True)
    alone = masked.all(-1)
    masked.diagonal(dim1=1, dim2=2).logical_and_(~alone)
    if values_are_checked() and alone.shape[1] > 1 and bool(alone.any()):
        warn(
            "constant feats",
            f"feats: {int(alone.sum())} of {alone.numel()} patches have no cosine of beta={beta:g} "
            "times their mean, not even with themselves: they attend to themselves alone. Lower "
            "beta, or pass features that differ more.",
        )
    # The softmax is the same without gamma beta m; minus 1 as in attention_from_features.
    attention = (gamma * (cosines - 1)).masked_fill(masked, -torch.inf).softmax(-1)
    mark_passed(attention)
    return attention


def _unit_patches(feats: Float[Tensor, "B D h w"]) -> Float[Tensor, "B N D"]:
    """Return features of unit length; warn if they do not tell patches apart."""
    sizes = check_tensors(feats=(feats, "B D h w"))
    dtype, patches = compute_dtype(feats), sizes["h"] * sizes["w"]
    # The cosines and their softmax exist at the same time.
    check_memory("feats", patches, 2 * sizes["B"] * dtype.itemsize * patches**2, feats.device)
    # Contiguous, since kernels sum in another order for another layout.
    x = unit_features(feats.contiguous().flatten(2).mT, dtype)
    if values_are_checked() and patches > 1:
        spread = (x.detach().amax(1) - x.detach().amin(1)).amax(-1)
        flat = spread <= 8 * torch.finfo(dtype).eps
        if bool(flat.any()):
            warn(
                "constant feats",
                f"feats: {int(flat.sum())} of {len(flat)} items are zero, or the same in all "
                "patches: every patch attends to all others alike. Check where the features come "
                "from.",
            )
    return x


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
    logs = (logs / _clamp(temperature, A.dtype)).masked_fill(~positive, -torch.inf)
    return cast_back(logs.softmax(-1), attention, "attention")


def _clamp(temperature: float, dtype: torch.dtype) -> float:
    """Keep a temperature from becoming 0 in the dtype."""
    return max(temperature, torch.finfo(dtype).tiny)


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
        (B, N, N); the attention itself if it has no heads and all its rows sum to 1.

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
