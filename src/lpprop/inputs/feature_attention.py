"""Attention between patches that is made from features, by their cosines."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import warn
from lpprop._core.memory import check_memory
from lpprop._core.options import check_above_0, check_from_0, check_number
from lpprop._core.precision import compute_dtype, full_precision
from lpprop._core.scans import mark_passed, values_are_checked
from lpprop.numerics.graphs import unit_features

__all__ = ["attention_from_features", "correlation_attention", "proxy_attention"]


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
    # Minus 1, the largest cosine, since the quotient would overflow for a tiny temperature, which
    # may also become 0 in the dtype.
    temperature = max(temperature, torch.finfo(x.dtype).tiny)
    attention = ((x @ x.mT - 1) / temperature).softmax(-1)
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


@full_precision
def correlation_attention(
    feats: Float[Tensor, "B D h w"], *, threshold: float = 0.2
) -> Float[Tensor, "B N N"]:
    """Make attention from features as CLIP-DINOiser does: their cosines above a threshold.

    With c_ij the cosine of patches i and j,

        A_ij = s_ij / sum_k s_ik,   s_ij = c_ij where c_ij >= threshold, else 0

    A patch for which that leaves none, not even itself, attends to itself alone: one with a zero
    feature, or any if the threshold is 1 and its cosine with itself is rounded down.

    Wysoczańska et al., "CLIP-DINOiser", ECCV 2024, Section 3.2, whose gamma is the threshold. Their
    code adds 1e-6 to the sums.

    Args:
        feats: (B, D, h, w) features; need not be normalised.
        threshold: in [0, 1]; the higher it is, the fewer patches a patch attends to.

    Returns:
        (B, N, N) with N = h w patches in row-major order and rows that sum to 1, in the dtype of
        `feats`, float32 at least. Differentiable.

    Raises:
        InputError: not four axes, values that are not finite, a bad threshold, or too little
            memory for N x N.

    Warns:
        InputWarning: features that are the same everywhere.

    >>> feats = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.75, 1.0]]]])
    >>> correlation_attention(feats)
    tensor([[[0.5556, 0.4444, 0.0000],
             [0.3333, 0.4167, 0.2500],
             [0.0000, 0.3750, 0.6250]]])
    """
    threshold = check_number("threshold", threshold, low=0, high=1)
    x = _unit_patches(feats)
    cosines = x @ x.mT
    masked = (cosines < threshold) | (cosines <= 0)
    attention = cosines.masked_fill(masked, 0.0)
    alone = masked.all(-1)
    attention = attention + torch.diag_embed(alone.to(attention.dtype))
    attention = attention / attention.sum(-1, keepdim=True)
    for check in ("finite", "rows"):
        mark_passed(attention, check)
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
                "patches, and tell none from another. Check where the features come from.",
            )
    return x
