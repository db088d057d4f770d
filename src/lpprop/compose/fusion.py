"""Fusion of several maps of the same scores."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.precision import uncompiled
from lpprop.compose.composite import Composite

__all__ = ["Fusion"]


class Fusion(Composite):
    """Give the same scores to several steps, and add what they return.

    Each map is divided by its largest value in the image first, so that none outweighs the others.
    In half precision take `OptimalPath(norm="image")`, since paths near 1/N^2 vanish there.

    Args:
        steps: two or more steps as `Chain` takes them; all return scores of one size.

    Raises:
        InputError: fewer than two steps, a step that cannot be called, or scores of several sizes.

    >>> import lpprop
    >>> maps = Fusion(lpprop.OptimalPath(), lpprop.MaxVelocity())
    >>> chain = lpprop.Chain(lpprop.ClassDistribution(), maps)
    >>> chain(torch.rand(1, 5, 4, 4), feats=torch.rand(1, 8, 4, 4)).shape
    torch.Size([1, 5, 4, 4])
    """

    fewest = 2

    @uncompiled
    def forward(self, logits: Float[Tensor, "B C h w"], **inputs: Any) -> Float[Tensor, "_ C H W"]:
        """Add the maps; each step gets the inputs that it takes."""
        self.check_known(inputs)
        check_tensors(logits=(logits, "B C h w"))
        maps = [self.run(step, logits, inputs) for step in self.steps]
        sizes = {tuple(scores.shape) for scores in maps}
        if len(sizes) > 1:
            raise InputError.of(
                "steps",
                got=f"maps of shapes {', '.join(map(str, sorted(sizes)))}",
                expected="one shape",
                fix="Upsample after the fusion, or in each of its steps.",
            )
        return torch.stack([_scale(scores) for scores in maps]).sum(0)


def _scale(scores: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    largest = scores.abs().amax((1, 2, 3), keepdim=True)
    return scores / torch.where(largest > 0, largest, 1.0)
