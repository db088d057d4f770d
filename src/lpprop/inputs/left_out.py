"""Classes that are left out of a call: -inf at every patch or pixel of every item."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lpprop._core.checks import is_finite
from lpprop._core.errors import InputError
from lpprop._core.tensors import check_kind

__all__ = ["bring_back", "find_kept"]


def find_kept(name: str, scores: Tensor) -> Bool[Tensor, " C"] | None:
    """Return which classes take part, or None if all do: not those at -inf everywhere.

    Args:
        name: what errors call the scores.
        scores: (B, C, h, w); anything else is left to the checks that follow.

    Raises:
        InputError: a class that only some items leave out, or no class that takes part.

    >>> find_kept("logits", torch.tensor([1.0, -torch.inf, 2.0]).reshape(1, 3, 1, 1))
    tensor([ True, False,  True])
    """
    check_kind(name, scores)
    # Almost all scores are finite, which one pass tells.
    if scores.ndim != 4 or not scores.is_floating_point() or is_finite(scores):
        return None
    out = torch.isneginf(scores).all(-1).all(-1)
    if not bool(out.any()):
        return None
    some = out.any(0) & ~out.all(0)
    if bool(some.any()):
        raise InputError.of(
            name,
            got=f"class {int(some.nonzero()[0])} at -inf in some of the {len(out)} items",
            expected="one that is left out of every item, or of none",
            fix="Pass the items one by one.",
        )
    if bool(out.all()):
        raise InputError.of(
            name, got="-inf in every class", expected="one that takes part", fix="Keep one."
        )
    return ~out[0]


def bring_back(
    scores: Float[Tensor, "B K H W"], kept: Bool[Tensor, " C"]
) -> Float[Tensor, "B C H W"]:
    """Return the scores of all classes: -inf for those that were left out.

    Raises:
        InputError: scores of other classes than those that were kept.

    >>> bring_back(torch.ones(1, 1, 1, 1), torch.tensor([False, True])).flatten()
    tensor([-inf, 1.])
    """
    if scores.shape[1] != int(kept.sum()):
        raise InputError.of(
            "logits",
            got="a class at -inf everywhere, beside a method that changes the classes",
            expected="no such class",
            fix="Leave the class out of the logits.",
        )
    every = scores.new_full((len(scores), len(kept), *scores.shape[2:]), -torch.inf)
    return every.index_copy(1, kept.nonzero()[:, 0], scores)
