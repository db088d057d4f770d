"""Attention pooling: each patch repeatedly takes the mean of the scores that it attends to.

Ahn, Kwak: Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised
Semantic Segmentation, CVPR 2018, Section 3.3, whose random walk this is. Wysoczańska et al.:
CLIP-DINOiser, ECCV 2024, Section 3.2, pool once, by thresholded cosines of DINO's features.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_axes, check_tensors
from lpprop._core.memory import check_memory
from lpprop._core.options import check_integer, check_number, checked
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.refiner import Refiner
from lpprop._core.scans import pass_on
from lpprop.inputs.attention import as_rows
from lpprop.inputs.feature_attention import correlation_attention
from lpprop.numerics.twins import match_twins

__all__ = ["AttentionPool", "CorrelationPool", "attention_pool", "correlation_pool"]


def _check_steps(name: str, value: object) -> int:
    return check_integer(name, value, low=0)


@full_precision
@checked(steps=_check_steps)
def attention_pool(
    logits: Float[Tensor, "B C N"] | Float[Tensor, "B C h w"],
    attention: Float[Tensor, "B N N"],
    *,
    steps: int = 1,
) -> Float[Tensor, "B C N"] | Float[Tensor, "B C h w"]:
    """Replace each patch's scores by the mean over the patches that it attends to.

        x_i <- sum_j A_ij x_j,   `steps` times, which is A^steps x

    The rows of A sum to 1. So a constant stays, scores stay between their extremes, and the more
    steps, the smoother they are: a random walk of that many steps.

    Args:
        logits: (B, C, N) scores at N patches, or (B, C, h, w) with N = h w in row-major order.
        attention: (B, N, N) non-negative; row i says what patch i attends to. Rows that do not sum
            to 1 are divided by their sums.
        steps: times that A is applied, >= 0; 0 returns the logits.

    Returns:
        Scores in the shape and dtype of `logits`; computed in that dtype, float32 at least.
        Differentiable in both.

    Raises:
        InputError: shapes that do not match, values that are not finite, attention that is negative
            or has a row of zeros, a bad number of steps, or too little memory.

    Warns:
        InputWarning: rows that do not sum to 1.

    >>> attention = torch.tensor([[[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]])
    >>> attention_pool(torch.tensor([[[1.0, 0.0, 3.0]]]), attention)
    tensor([[[0.5000, 0.5000, 3.0000]]])
    """
    scores = logits
    if isinstance(logits, Tensor) and logits.ndim == 4:
        check_axes(logits=(logits, "B C h w"))
        scores = pass_on(logits, logits.flatten(2))
    sizes = check_tensors(logits=(scores, "B C N"), attention=(attention, "B N N"))
    dtype = compute_dtype(scores)
    if attention.dtype != dtype:
        check_memory("attention", sizes["N"], dtype.itemsize * sizes["N"] ** 2, attention.device)
    attention = as_rows(attention)

    def pool(x: Tensor, A: Tensor) -> Tensor:
        for _ in range(steps):
            x = x @ A.mT
        return x

    # One item at a time, so that a batch equals a loop, and one attention in the dtype exists.
    pairs = zip(scores.to(dtype), attention, strict=True)
    pooled = torch.stack([pool(x, A.to(dtype)) for x, A in pairs])
    pooled = match_twins(pooled, scores).reshape(logits.shape)
    return cast_back(pooled, logits)


@full_precision
@checked(threshold=lambda name, value: check_number(name, value, low=0, high=1), steps=_check_steps)
def correlation_pool(
    logits: Float[Tensor, "B C h w"],
    feats: Float[Tensor, "B D h w"],
    *,
    threshold: float = 0.2,
    steps: int = 1,
) -> Float[Tensor, "B C h w"]:
    """Replace each patch's scores by the mean over similar patches (CLIP-DINOiser's pooling).

    `attention_pool` with `lpprop.correlation_attention`, weights that are the cosines of features
    where these reach the threshold:

        x_i <- sum_j s_ij x_j / sum_j s_ij,   s_ij = c_ij where c_ij >= threshold, else 0

    CLIP-DINOiser pools the features of CLIP, and compares them with the text afterwards. A cosine
    is linear in the feature but for its length, so for features of one length this gives the
    same ranking of the classes at each patch.

    Args:
        logits: (B, C, h, w) scores.
        feats: (B, D, h, w) features; need not be normalised.
        threshold: smallest cosine that counts, in [0, 1].
        steps: times that the mean is taken, >= 0; 0 returns the logits.

    Returns:
        Scores (B, C, h, w) in the dtype of `logits`. Differentiable in both.

    Raises:
        InputError: shapes that do not match, values that are not finite, an option out of range, or
            too little memory for N x N.

    Warns:
        InputWarning: features that are the same everywhere.

    >>> feats = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]])
    >>> correlation_pool(torch.tensor([[[[1.0, 0.0, 3.0]]]]), feats)
    tensor([[[[0.5000, 0.5000, 3.0000]]]])
    """
    check_tensors(logits=(logits, "B C h w"), feats=(feats, "B D h w"))
    attention = correlation_attention(feats, threshold=threshold)
    return attention_pool(logits, attention, steps=steps)


class AttentionPool(Refiner, function=attention_pool, needs=("attention",)):
    """`attention_pool` as a module; it takes that function's options.

    >>> step = AttentionPool(steps=2)
    >>> step(torch.rand(1, 5, 4, 4), attention=torch.rand(1, 16, 16).softmax(-1)).shape
    torch.Size([1, 5, 4, 4])
    """


class CorrelationPool(Refiner, function=correlation_pool, needs=("feats",)):
    """`correlation_pool` as a module; it takes that function's options.

    >>> step = CorrelationPool(threshold=0.4)
    >>> step(torch.rand(1, 5, 4, 4), feats=torch.rand(1, 8, 4, 4)).shape
    torch.Size([1, 5, 4, 4])
    """
