"""Which of many classes are in an image at all, so that the others are not refined for nothing."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lpprop._core.checks import check_axes, check_tensors
from lpprop._core.errors import InputError
from lpprop._core.options import check_above_0, check_integer, check_number
from lpprop._core.precision import compute_dtype, uncompiled
from lpprop.inputs.left_out import find_kept

__all__ = ["find_classes", "gather_evidence", "select_classes"]


@uncompiled
def select_classes(
    logits: Float[Tensor, "B C h w"],
    *,
    top: int | None = None,
    threshold: float | None = None,
    patches: int | float = 0.01,
    logit_scale: float | None = None,
    global_scores: Float[Tensor, "B C"] | None = None,
) -> Float[Tensor, "B C h w"]:
    """Leave out the classes that are probably not in the image: their scores become -inf.

    The evidence for a class is the mean of its scores at its m best patches, or what
    `global_scores` says:

        evidence_c = 1/m Σ of the m largest x_c,    m = patches, or ceil(patches · h · w)
        x = logits, or softmax over the classes of (logit_scale · logits)

    Probabilities tell better than cosines, of which each class has a level of its own: pass the
    scale of the cosines as `logit_scale`, such as CLIP's 100, or refine probabilities.

    Kept are the `top` classes of the most evidence, or those whose evidence reaches `threshold`,
    and always the best one. Among equals the first are kept. An image keeps what any image of the
    batch keeps (any window, where windows cut the image), since `lpprop.refine` leaves a class out
    of all items or of none.

        scores = lpprop.refine(lpprop.select_classes(logits, top=20), feats, image)

    There the classes left out come back as -inf, below all others. The kept ones score as they
    would beside all classes, up to rounding, wherever a method treats each class by itself:
    `bilinear`, `joint_bilateral`, `guided_filter`, `pamr`, `attention_pool`, `clip_dinoiser`, and
    `lposs` and `lposs+` with the settings that are not "auto". Methods that compare the classes
    give them other scores: those of `lpprop.class_distribution`, whose softmax is over the classes;
    `dense_crf` and `local_crf`; `region_vote`, in which the best class of each pixel votes; k,
    gamma and alpha of "auto", which follow from where each class wins; and `background`, whose
    shares add to 1.

    Args:
        logits: any real scores. A class that is -inf everywhere stays so.
        top: how many classes are kept of each item, >= 1; all if there are not more.
        threshold: the least evidence that keeps a class, in the units of x or of the global scores.
            Exactly one of top and threshold is given.
        patches: how many of its patches speak for a class: an integer >= 1, or a share in (0, 1]
            as a float, of which there is at least one patch.
        logit_scale: > 0, of the softmax, for the evidence alone; None takes the logits as they are.
        global_scores: evidence of the image as a whole, such as the cosines of CLIP's image and
            text embeddings, instead of that of the patches.

    Returns:
        The logits, with -inf at the classes left out. Differentiable in the others.

    Raises:
        InputError: neither or both of top and threshold, or numbers out of range; scores of other
            shapes, or not finite.

    >>> logits = torch.tensor([[5.0, 0.0], [1.0, 1.0], [0.0, 3.0]]).reshape(1, 3, 1, 2)
    >>> select_classes(logits, top=2, patches=1).flatten(2)
    tensor([[[5., 0.],
             [-inf, -inf],
             [0., 3.]]])
    >>> kept = select_classes(logits, threshold=2.0, patches=1.0)
    >>> torch.isneginf(kept).flatten(2).all(-1)
    tensor([[False,  True,  True]])
    """
    kept = find_classes(
        logits, top=top, threshold=threshold, patches=patches, logit_scale=logit_scale,
        global_scores=global_scores,
    )  # fmt: skip
    return logits.masked_fill(~kept[None, :, None, None], -torch.inf)


def find_classes(
    logits: Float[Tensor, "B C h w"],
    *,
    top: int | None = None,
    threshold: float | None = None,
    patches: int | float = 0.01,
    logit_scale: float | None = None,
    global_scores: Float[Tensor, "B C"] | None = None,
) -> Bool[Tensor, " C"]:
    """Return which classes `select_classes` keeps.

    >>> find_classes(torch.tensor([2.0, 1.0, 3.0]).reshape(1, 3, 1, 1), top=2)
    tensor([ True, False,  True])
    """
    if (top is None) == (threshold is None):
        raise InputError.of(
            "top",
            got="neither it nor threshold" if top is None else f"{top!r} beside threshold",
            expected="exactly one of top and threshold",
            fix="Pass top=20, or threshold=0.3.",
        )
    top = None if top is None else check_integer("top", top)
    threshold = None if threshold is None else check_number("threshold", threshold)
    patches = (
        check_number("patches", patches, low=0, high=1, open_low=True)
        if isinstance(patches, float)
        else check_integer("patches", patches)
    )
    if logit_scale is not None:
        logit_scale = check_above_0("logit_scale", logit_scale)
    known = find_kept("logits", logits) if isinstance(logits, Tensor) else None
    counted = logits if known is None else logits[:, known]
    check_tensors(logits=(counted, "B C h w"))
    if global_scores is None:
        evidence = gather_evidence(counted, patches, logit_scale)
    else:
        check_tensors(global_scores=(global_scores, "B C"))
        check_axes(logits=(logits, "B C h w"), global_scores=(global_scores, "B C"))
        given = global_scores if known is None else global_scores[:, known]
        evidence = given.detach().to(compute_dtype(given))
    chosen = _choose(evidence, top, threshold).any(0)
    if known is None:
        return chosen
    every = torch.zeros_like(known)
    every[known] = chosen
    return every


def gather_evidence(
    logits: Float[Tensor, "B C h w"], patches: int | float, logit_scale: float | None = None
) -> Float[Tensor, "B C"]:
    """Return the mean of each class's best patches; the options are checked.

    >>> gather_evidence(torch.tensor([3.0, 1.0, 2.0]).reshape(1, 1, 1, 3), 2)
    tensor([[2.5000]])
    """
    found = logits.detach().to(compute_dtype(logits)).flatten(2)
    nodes = found.shape[2]
    # Rounding must not make 4 patches of 0.3 x 10.
    share = isinstance(patches, float)
    best = math.ceil(patches * nodes * (1 - 1e-9)) if share else min(int(patches), nodes)
    if logit_scale is not None:
        # Below the largest, so that no product overflows to NaN; nor does the mean.
        found = (logit_scale * (found - found.amax(1, keepdim=True))).softmax(1)
    return (found.topk(best, sorted=False).values / best).sum(-1)


def _choose(
    evidence: Float[Tensor, "B C"], top: int | None, threshold: float | None
) -> Bool[Tensor, "B C"]:
    # Stable, so that the first of equal classes are kept.
    order = evidence.argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(evidence, dtype=torch.bool)
    chosen.scatter_(1, order[:, : 1 if top is None else top], True)
    return chosen if threshold is None else chosen | (evidence >= threshold)
