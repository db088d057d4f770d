"""Classes with several prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_finite
from lpprop._core.errors import InputError
from lpprop._core.tensors import check_kind

__all__ = ["merge_classes"]


def merge_classes(
    scores: Float[Tensor, "B Q *grid"], groups: Sequence[Sequence[int]]
) -> Float[Tensor, "B C *grid"]:
    """Score each class by the best of its prompts.

    scores_c = max over q in group c of scores_q.

    Args:
        scores: one channel per prompt (synonym, background prompt), on any grid.
        groups: for each class the indices of its prompts, each in [0, Q); a prompt may serve
            several classes or none.

    Returns:
        One channel per class, in the order of `groups`.

    Raises:
        InputError: no group, an empty group, or an index that no prompt has.

    >>> scores = torch.tensor([[1.0, 5.0, 3.0]])          # cat, tiger cat, sofa
    >>> merge_classes(scores, [[0, 1], [2]])
    tensor([[5., 3.]])
    """
    if isinstance(scores, Tensor):
        check_kind("scores", scores)
    if not isinstance(scores, Tensor) or scores.ndim < 2 or 0 in scores.shape:
        raise InputError.of(
            "scores",
            got=str(tuple(scores.shape)) if isinstance(scores, Tensor) else type(scores).__name__,
            expected="a tensor (B, Q, ...) without empty axes",
            fix="Give it a batch axis and a prompt axis.",
        )
    if not scores.is_floating_point():
        raise InputError.of(
            "scores",
            got=f"dtype {scores.dtype}",
            expected="a floating-point dtype",
            fix="Pass scores.float().",
        )
    check_finite("scores", scores)
    prompts = scores.shape[1]
    listed = list(groups) if isinstance(groups, (list, tuple)) else []
    if not listed:
        raise InputError.of(
            "groups",
            got=repr(groups),
            expected="at least one class",
            fix="List the prompts of each class, such as [[0, 1], [2]].",
        )
    indices = [_check_group(number, group, prompts) for number, group in enumerate(listed)]
    return torch.stack([scores[:, group].amax(1) for group in indices], dim=1)


def _check_group(number: int, group: object, prompts: int) -> list[int]:
    try:
        indices = [index(i) for i in group] if isinstance(group, Iterable) else []
    except (TypeError, ValueError, RuntimeError):  # of NumPy's and torch's arrays
        indices = []
    if not indices or not all(0 <= i < prompts for i in indices):
        raise InputError.of(
            f"groups[{number}]",
            got=repr(group),
            expected=f"one or more prompt indices from 0 to {prompts - 1}",
            fix="List the prompts of each class, such as [[0, 1], [2]].",
        )
    return indices
