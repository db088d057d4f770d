"""The shares of the classes in the scores of each patch or pixel.

Zhu and Ghahramani, "Learning from labeled and unlabeled data with label propagation",
CMU-CALD-02-107, 2002, whose propagation divides the labels of each node by their sum. Where few
patches have a label to begin with, propagated scores fall off with the distance to them, and a step
that averages over pixels would follow the patches with large scores across borders. In shares all
patches count alike.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.precision import full_precision
from lpprop._core.refiner import Refiner
from lpprop.inputs.background import as_probabilities

__all__ = ["ClassShares", "class_shares"]


@full_precision
def class_shares(logits: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """Divide the scores of each patch or pixel by their sum over the classes.

        shares_cp = max(x_cp, 0) / sum over d of max(x_dp, 0)

    Scores of an image with negative ones below a hundredth of its largest, such as cosines or
    logits, go through a softmax over the classes instead; smaller ones are what solvers leave.

    Args:
        logits: (B, C, h, w) scores, larger = likelier, on any grid.

    Returns:
        (B, C, h, w) in [0, 1], in the dtype of `logits`. They sum to 1 over the classes, or are 0
        where all scores are 0. The best class stays the best. Differentiable.

    Raises:
        InputError: not four axes, an empty axis, or values that are not finite.

    >>> import torch
    >>> class_shares(torch.tensor([[[[3.0, 0.01]], [[1.0, 0.01]]]]))
    tensor([[[[0.7500, 0.5000]],
    <BLANKLINE>
             [[0.2500, 0.5000]]]])
    """
    check_tensors(logits=(logits, "B C h w"))
    return as_probabilities(logits)


class ClassShares(Refiner, function=class_shares):
    """`class_shares` as a module.

    >>> import torch
    >>> ClassShares()(torch.rand(1, 5, 4, 4)).sum(1).allclose(torch.ones(1, 4, 4))
    True
    """
