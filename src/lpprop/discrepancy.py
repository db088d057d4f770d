"""Class distributions over the patches, and their pointwise divergence from uniform (DSLO).

Li, Lu, Zhang, Wang, Xie, Qu: Direct Segmentation without Logits Optimization for Training-Free
Open-Vocabulary Semantic Segmentation, 2026 (arXiv:2604.07723).

How far the distribution of a class over the patches is from the degenerate, uniform one, patch by
patch, is itself the score of the class. Three measures of it: the KL divergence here, the optimal
path in `optimal_path.py`, the maximum velocity in `max_velocity.py`.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop.checks import (
    Check,
    check_boolean,
    check_choice,
    check_distribution,
    check_number,
    check_options,
    check_tensors,
)
from lpprop.precision import compute_dtype, full_precision, returned
from lpprop.refiner import Refiner, on_patches

__all__ = [
    "ClassDistribution",
    "KLDiscrepancy",
    "as_distribution",
    "class_distribution",
    "kl_discrepancy",
]

_DISTRIBUTION_CHECKS: dict[str, Check] = {
    "nms": partial(check_number, low=0, high=1),
    "threshold": partial(check_choice, choices=("relative", "absolute")),
    "confidence": partial(check_choice, choices=("softmax", "minmax")),
    "logit_scale": partial(check_number, low=1e-9, high=1e9),
    "early_rejection": check_boolean,
}


@full_precision
def class_distribution(
    logits: Float[Tensor, "B C h w"],
    *,
    nms: float = 0.9,
    threshold: str = "relative",
    confidence: str = "softmax",
    logit_scale: float = 1.0,
    early_rejection: bool = False,
) -> Float[Tensor, "B C N"]:
    """Turn the scores of each class into a distribution over its most confident patches.

    With z = logit_scale * logits and q the confidence,

        kept^c = patches with q^c >= nms max over patches of q^c          (non-maximum suppression)
        f^c    = softmax of z^c over the kept patches, 0 elsewhere

    Args:
        logits: (B, C, h, w) scores, larger = likelier; any real numbers.
        nms: threshold of the confidence, in [0, 1]; 0 keeps every patch.
        threshold: "relative" to the largest confidence of the class as above, or "absolute":
            q^c >= nms, where a class without such a patch keeps its best one.
        confidence: "softmax" of z over the classes, or "minmax": the logits of the class, scaled
            to [0, 1] over the patches, which does not depend on the other classes.
        logit_scale: factor of the logits, in [1e-9, 1e9], where the scores are cosines: CLIP's own
            is 100.
        early_rejection: whether a class that is the likeliest at no patch gets a row of zeros,
            which every map scores 0 and which costs them nothing.

    Returns:
        Distributions (B, C, N), N = h w patches in row-major order, in the dtype of `logits`. Each
        row sums to 1, or to 0 where the class is rejected. Differentiable (the choice of patches
        is held fixed).

    Raises:
        InputError: not four axes, values that are not finite, or an option out of range.

    >>> logits = torch.tensor([[[[2.0, 1.9, -9.0]], [[0.0, 0.0, 1.0]]]])
    >>> class_distribution(logits)
    tensor([[[0.5250, 0.4750, 0.0000],
             [0.0000, 0.0000, 1.0000]]])
    """
    check_tensors(logits=(logits, "B C h w"))
    options = {
        "nms": nms, "threshold": threshold, "confidence": confidence, "logit_scale": logit_scale,
        "early_rejection": early_rejection,
    }  # fmt: skip
    check_options(_DISTRIBUTION_CHECKS, options)

    # Less each class's largest score, which no softmax over patches sees, the scaled ones of any
    # size stay finite.
    plain = logits.flatten(2).to(compute_dtype(logits))
    z = logit_scale * (plain - plain.detach().amax(2, keepdim=True))
    with torch.no_grad():
        if confidence == "softmax":
            q = (logit_scale * (plain - plain.amax(1, keepdim=True))).softmax(1)
        else:
            half = plain / 2  # whose differences stay finite
            low, high = half.amin(2, keepdim=True), half.amax(2, keepdim=True)
            # A class that scores alike everywhere is as confident everywhere.
            q = torch.where(high > low, (half - low) / (high - low), 1.0)
        best = q.amax(2, keepdim=True)
        kept = q >= (nms * best if threshold == "relative" else best.clamp(max=nms))
    f = z.masked_fill(~kept, -torch.inf).softmax(2)
    if early_rejection:
        winners = torch.zeros_like(f, dtype=torch.bool)
        winners.scatter_(1, plain.detach().argmax(1, keepdim=True), True)
        f = f * winners.any(2, keepdim=True)
    return returned(f, logits)


@full_precision
def kl_discrepancy(distribution: Float[Tensor, "B C N"]) -> Float[Tensor, "B C N"]:
    """Pointwise Kullback-Leibler divergence of each distribution from the uniform u = 1/N.

        map_j = f_j log(f_j / u),   0 where f_j = 0

    Args:
        distribution: (B, C, N), each row a distribution over the patches, or zeros.

    Returns:
        Maps (B, C, N) in the dtype of `distribution`, negative where f_j is below uniform, where
        the 0 of a rejected class is larger. Differentiable where f_j > 0.

    Raises:
        InputError: not three axes, or rows that are no distributions.

    >>> kl_discrepancy(torch.tensor([[[0.5, 0.5, 0.0, 0.0]]]))
    tensor([[[0.3466, 0.3466, 0.0000, 0.0000]]])
    """
    check_tensors(distribution=(distribution, "B C N"))
    f = as_distribution(distribution)
    ratio = torch.where(f > 0, f * f.shape[-1], 1.0)  # 0 log 0 = 0, with a finite slope
    return returned(f * ratio.log(), distribution, "distribution")


def as_distribution(distribution: Float[Tensor, "B C N"]) -> Float[Tensor, "B C N"]:
    """Refuse rows that are no distributions; take rounding out of the sums of those that are.

    Rows of zeros stand for rejected classes and stay.
    """
    check_distribution(
        "distribution", distribution, "Make it with lpprop.class_distribution(logits)."
    )
    f = distribution.to(compute_dtype(distribution))
    total = f.sum(-1, keepdim=True)
    return f / torch.where(total > 0, total, 1.0)


class ClassDistribution(Refiner, function=class_distribution, checks=_DISTRIBUTION_CHECKS):
    """`class_distribution` as a module; it takes that function's options.

    >>> ClassDistribution(nms=0.8)(torch.rand(1, 5, 4, 4)).shape
    torch.Size([1, 5, 16])
    """

    def forward(
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        feats: Tensor | None = None,
        image: Tensor | None = None,
        attention: Tensor | None = None,
    ) -> Float[Tensor, "B C N"]:
        """Make the distributions; `feats`, `image` and `attention` are ignored."""
        return class_distribution(logits, **self.config)


class KLDiscrepancy(Refiner, function=kl_discrepancy):
    """`kl_discrepancy` as a module.

    >>> KLDiscrepancy()(torch.full((1, 5, 16), 1 / 16)).abs().max() < 1e-6
    tensor(True)
    """

    def forward(
        self,
        logits: Float[Tensor, "B C *grid"],
        *,
        feats: Tensor | None = None,
        image: Tensor | None = None,
        attention: Tensor | None = None,
    ) -> Float[Tensor, "B C *grid"]:
        """Map distributions (B, C, N) or on their grid (B, C, h, w); the rest is ignored."""
        return on_patches(kl_discrepancy, logits)
