"""Class distributions over the patches (DSLO).

Li, Lu, Zhang, Wang, Xie, Qu: Direct Segmentation without Logits Optimization for Training-Free
Open-Vocabulary Semantic Segmentation, 2026 (arXiv:2604.07723).

The score of a class at a patch is how far the class's distribution over the patches is there from
the degenerate, uniform one. There are three measures of it: the KL divergence in `_kl.py`, the
optimal path in `_optimal_path.py` and the maximum velocity in `_max_velocity.py`.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import warn
from lpprop._core.options import check_boolean, check_choice, check_number, checked
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.refiner import Refiner
from lpprop._core.scans import values_are_checked

__all__ = ["ClassDistribution", "class_distribution"]

# Cosines of CLIP differ by less between the classes of a patch; probabilities and logits by more.
_FLAT = 0.3


@full_precision
@checked(
    nms=partial(check_number, low=0, high=1),
    threshold=partial(check_choice, choices=("relative", "absolute")),
    confidence=partial(check_choice, choices=("softmax", "minmax")),
    logit_scale=partial(check_number, low=1e-9, high=1e9),
    early_rejection=check_boolean,
)
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
            q^c >= nms, and a class without such a patch keeps its best one.
        confidence: "softmax" of z over the classes, or "minmax": the logits of the class, scaled
            to [0, 1] over the patches, which does not depend on the other classes.
        logit_scale: factor of the logits, in [1e-9, 1e9]. If they are cosines, take the model's
            own, which is 100 for CLIP.
        early_rejection: whether a class that is the likeliest at no patch gets a row of zeros;
            every map scores it 0, at no cost.

    Returns:
        Distributions (B, C, N), N = h w patches in row-major order, in the dtype of `logits`. Each
        row sums to 1, or to 0 if the class is rejected. Differentiable (the choice of patches
        is held fixed).

    Raises:
        InputError: not four axes, values that are not finite, or an option out of range.

    Warns:
        InputWarning: scores so close that their softmax is nearly flat, such as cosines.

    >>> logits = torch.tensor([[[[2.0, 1.9, -9.0]], [[0.0, 0.0, 1.0]]]])
    >>> class_distribution(logits)
    tensor([[[0.5250, 0.4750, 0.0000],
             [0.0000, 0.0000, 1.0000]]])
    """
    check_tensors(logits=(logits, "B C h w"))
    if confidence == "softmax":
        _warn_if_flat(logits, logit_scale)

    # Minus each class's largest score, which no softmax over patches depends on, so that scores of
    # any size stay finite when they are scaled.
    plain = logits.flatten(2).to(compute_dtype(logits))
    z = logit_scale * (plain - plain.detach().amax(2, keepdim=True))
    with torch.no_grad():
        kept = _find_kept(plain / 2, 2 * logit_scale, nms, threshold, confidence)
    f = z.masked_fill(~kept, -torch.inf).softmax(2)
    if early_rejection:
        winners = torch.zeros_like(f, dtype=torch.bool)
        winners.scatter_(1, plain.detach().argmax(1, keepdim=True), True)
        f = f * winners.any(2, keepdim=True)
    return cast_back(f, logits)


def _warn_if_flat(logits: Float[Tensor, "B C h w"], logit_scale: float) -> None:
    """Warn of scores so close that every class is about as confident as every other."""
    if not values_are_checked() or logits.shape[1] == 1:
        return
    spread = logit_scale * float((logits.detach().amax(1) - logits.detach().amin(1)).max())
    if spread < _FLAT:
        warn(
            "flat scores",
            f"logits: got scores that differ by at most {spread:.3g} (with logit_scale="
            f"{logit_scale:g}) between the classes of a patch. Their softmax is nearly flat, so "
            "that classes tie, and the first of them wins. If they are cosines, pass "
            "logit_scale=100, the factor of CLIP.",
        )


def _find_kept(
    half: Float[Tensor, "B C N"], scale: float, nms: float, threshold: str, confidence: str
) -> Bool[Tensor, "B C N"]:
    """Mark the patches that non-maximum suppression keeps, given halves of the logits.

    The differences of halves cannot overflow.
    """
    if confidence == "minmax":
        low, high = half.amin(2, keepdim=True), half.amax(2, keepdim=True)
        # A class with the same score everywhere is equally confident everywhere.
        return torch.where(high > low, (half - low) / (high - low), 1.0) >= nms  # the best has 1
    # In logarithms, since the softmax of a class far below another underflows at every patch; and
    # in the unit of the halves, since no scale then leads out of the dtype's range.
    below = half - half.amax(1, keepdim=True)
    log_q = below - (scale * below).logsumexp(1, keepdim=True) / scale
    margin = math.log(nms) / scale if nms > 0 else -math.inf
    best = log_q.amax(2, keepdim=True)
    return log_q >= (best + margin if threshold == "relative" else best.clamp(max=margin))


class ClassDistribution(Refiner, function=class_distribution):
    """`class_distribution` as a module; it takes that function's options.

    >>> ClassDistribution(nms=0.8)(torch.rand(1, 5, 4, 4)).shape
    torch.Size([1, 5, 16])
    """
