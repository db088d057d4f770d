"""None of these: a channel for the pixels that belong to no class that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError, warn
from lpprop._core.label_maps import NONE_OF_THESE
from lpprop._core.options import check_number
from lpprop._core.precision import compute_dtype
from lpprop._core.scans import values_are_checked
from lpprop.inputs.left_out import bring_back, find_kept

__all__ = [
    "add_background",
    "add_name",
    "as_probabilities",
    "check_background",
    "check_saliency",
    "find_background",
    "lacks_background",
    "mark_background",
]

# Solvers and interpolation leave scores this far outside the range that they belong to, relative
# to the largest.
_SLACK = 1e-2
#: Saliency above it is foreground, as in CLIP-DINOiser's code.
_SALIENT = 0.5


def add_background(
    scores: Float[Tensor, "B C H W"],
    threshold: float,
    *,
    saliency: Float[Tensor, "B H W"] | Bool[Tensor, "B H W"] | None = None,
) -> Float[Tensor, "B K H W"]:
    """Append a channel for "none of these", which wins where no class reaches a threshold.

    The channel holds the threshold, so that the argmax is C exactly where every class scores less:

        scores_C = threshold;    argmax = C  <=>  max_c scores_c < threshold

    With a saliency map, what is salient keeps its best class, however low that scores:

        scores_C = threshold where saliency <= 0.5, else min(0, min_c scores_c)
        argmax = C  <=>  saliency <= 0.5 and max_c scores_c < threshold

    It is the rule of CLIP-DINOiser (Wysoczanska et al., ECCV 2024), whose code takes FOUND's
    foreground probability as saliency and a threshold of 0.99, and writes 1 into the first class,
    which is to be the background. Here the background is a channel of its own, the last one.

    A class that scores exactly the threshold reaches it: among equal scores the argmax takes the
    first, and the background is last. As in PyTorch's own comparisons, the threshold is first
    rounded to the dtype of the scores: in half precision 0.4 is 0.39990.

    Args:
        scores: probabilities, in [0, 1] up to a hundredth that solvers may leave; they need not sum
            to 1. A class that is -inf everywhere stays so, and never wins.
        threshold: in [0, 1]; at 0 no pixel is background, but where all scores are below it.
        saliency: the probability that a pixel is foreground, in [0, 1], or a mask of it.

    Returns:
        (B, C + 1, H, W) in the dtype of the scores, which are unchanged. Differentiable in them.

    Raises:
        InputError: scores that are no probabilities, a threshold out of range, or saliency of
            another shape or range.

    >>> scores = torch.tensor([[0.9, 0.3, 0.4], [0.1, 0.2, 0.3]]).reshape(1, 2, 1, 3)
    >>> add_background(scores, 0.4).argmax(1)
    tensor([[[0, 2, 0]]])
    >>> add_background(scores, 0.5, saliency=torch.tensor([[[0.0, 0.9, 0.1]]])).argmax(1)
    tensor([[[0, 0, 2]]])
    """
    threshold = check_background("threshold", threshold)
    kept = find_kept("scores", scores) if isinstance(scores, Tensor) else None
    counted = scores if kept is None else scores[:, kept]
    given = {} if saliency is None else {"saliency": (saliency, "B H W", ("float", "bool"))}
    check_tensors(scores=(counted, "B C H W"), **given)
    _check_unit(
        "scores",
        counted,
        "a probability per class",
        "Turn them into probabilities: scores.softmax(1), (100 * cosines).softmax(1) or "
        "scores.sigmoid(); where none is negative, scores / scores.sum(1, keepdim=True).",
    )
    if saliency is not None:
        check_saliency(saliency)
    channel = _channel(counted, threshold, saliency)
    return torch.cat([scores, channel], 1)


def check_background(name: str, threshold: object) -> float:
    """Return a threshold between background and classes.

    Raises:
        InputError: no number in [0, 1].
    """
    return check_number(name, threshold, low=0, high=1)


def check_saliency(saliency: Tensor) -> None:
    """Refuse a saliency map out of range."""
    _check_unit(
        "saliency",
        saliency,
        "the probability of the foreground",
        "Divide by its largest possible value, or pass a mask of booleans.",
    )


def lacks_background() -> InputError:
    """Make the error for saliency without a threshold."""
    return InputError.of(
        "saliency",
        got="a map, and no background",
        expected="background beside it, the threshold below which it decides",
        fix="Pass background=0.4, or remove saliency.",
    )


def _check_unit(name: str, values: Tensor, what: str, fix: str) -> None:
    """Refuse values outside [0, 1], up to a little that solvers may leave."""
    if not values_are_checked() or values.dtype == torch.bool:
        return
    low, high = (float(bound) for bound in torch.aminmax(values.detach()))
    if low < -_SLACK or high > 1 + _SLACK:
        raise InputError.of(
            name,
            got=f"values from {low:.4g} to {high:.4g}",
            expected=f"{what}, in [0, 1]",
            fix=fix,
        )


def find_background(class_names: Sequence[str]) -> int | None:
    """Return which class is the background of a data set by its name, if one is.

    >>> find_background(["Background", "cat"]), find_background(["cat"])
    (0, None)
    """
    return next((i for i, name in enumerate(class_names) if name.lower() == "background"), None)


def add_name(class_names: Sequence[str]) -> list[str]:
    """Return the names of the labels: those of the classes, and then that of the background.

    Raises:
        InputError: a class that is called so already.

    >>> add_name(["cat"])
    ['cat', 'none of these']
    """
    if any(name.lower() == NONE_OF_THESE for name in class_names):
        raise InputError.of(
            "class_names",
            got=f"{NONE_OF_THESE!r} among them, and a background",
            expected="another name, since the background is called so",
            fix="Rename the class, or leave out background.",
        )
    return [*class_names, NONE_OF_THESE]


def as_probabilities(scores: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Turn refined scores into probabilities, image by image.

    Refined scores have no common scale: LPOSS leaves a factor out, velocities and costs have one of
    their own. Scores of an image of which none is negative are divided by their sum over the
    classes; others go through a softmax. Negative ones of up to a hundredth of the largest are
    what solvers leave, and count as 0. Where all scores are 0, so are the probabilities.

    Args:
        scores: finite.

    >>> as_probabilities(torch.tensor([[3.0], [1.0]]).reshape(1, 2, 1, 1)).flatten()
    tensor([0.7500, 0.2500])
    >>> as_probabilities(torch.tensor([[-3.0], [-3.0]]).reshape(1, 2, 1, 1)).flatten()
    tensor([0.5000, 0.5000])
    """
    return torch.stack([_shares(item) for item in scores])


def _shares(scores: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
    low, high = (float(bound) for bound in torch.aminmax(scores.detach()))
    exact = scores.to(compute_dtype(scores))
    if low < -_SLACK * high:
        return exact.softmax(0).to(scores.dtype)
    # Divided by the largest first, since the sum of scores that fit into their dtype may not.
    exact = exact.clamp(min=0) / (high or 1.0)
    total = exact.sum(0, keepdim=True)
    return (exact / torch.where(total > 0, total, 1.0)).to(scores.dtype)


def mark_background(
    scores: Float[Tensor, "B C H W"], threshold: float, saliency: Tensor | None = None
) -> Float[Tensor, "B K H W"]:
    """Turn refined scores into probabilities, and append the background: what `refine` does.

    Args:
        scores: two classes or more that take part; others are -inf everywhere.
        threshold: in [0, 1], checked.
        saliency: (B, H, W), checked; on another grid it is resampled bilinearly.

    Returns:
        Probabilities of the classes that take part, and last the background; -inf for the others.
    """
    kept = find_kept("logits", scores)
    shares = as_probabilities(scores if kept is None else scores[:, kept])
    if saliency is not None and saliency.shape[1:] != shares.shape[2:]:
        soft = saliency.to(compute_dtype(shares))[:, None]
        saliency = F.interpolate(soft, shares.shape[2:], mode="bilinear")[:, 0]
    channel = _channel(shares, threshold, saliency)
    _warn_of_extremes(shares, channel, threshold)
    with_background = torch.cat([shares, channel], 1)
    if kept is None:
        return with_background
    return bring_back(with_background, torch.cat([kept, kept.new_ones(1)]))


def _channel(scores: Tensor, threshold: float, saliency: Tensor | None) -> Float[Tensor, "B 1 H W"]:
    channel = torch.full_like(scores[:, :1], threshold, requires_grad=False)
    if saliency is None:
        return channel
    # Not above any class, so that the argmax, which takes the first of equal scores, is a class.
    lowest = scores.detach().amin(1, keepdim=True).clamp(max=0)
    salient = saliency if saliency.dtype == torch.bool else saliency > _SALIENT
    return torch.where(salient[:, None], lowest, channel)


def _warn_of_extremes(shares: Tensor, channel: Tensor, threshold: float) -> None:
    """Warn of a threshold that every pixel reaches by itself, and of one that an image never does.

    The best of C shares is at least 1 / C, whatever the image shows.
    """
    best, classes = shares.detach().amax(1, keepdim=True), shares.shape[1]
    rejected = (best < channel).flatten(1)
    if threshold * classes <= 1 and not bool(rejected.any()):
        warn(
            "no background",
            f"background: got {threshold:g} beside {classes} classes, the best of which always has "
            f"a share of at least 1 / {classes}, so that no pixel is none of these. Raise the "
            "threshold, or name more classes.",
        )
    nothing = rejected.all(1)
    if not bool(nothing.any()):
        return
    item = int(nothing.nonzero()[0])
    where = "" if bool(nothing.all()) else f" of item {item}"
    warn(
        "all background",
        f"background: got {threshold:g}, which no class reaches at any pixel{where}, so that every "
        f"one is none of these. The refined scores' shares of {shares.shape[1]} classes are at "
        f"most {float(best[item].amax()):.3g}: lower the threshold, or refine probabilities, such "
        "as (100 * cosines).softmax(1) of CLIP.",
    )
