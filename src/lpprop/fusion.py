"""Fusion of several maps of the same scores."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lpprop.chain import Chain
from lpprop.errors import InputError

__all__ = ["Fusion"]


class Fusion(nn.Module):
    """Give the same scores to several steps, and add what they return.

    Each map is divided by its largest value in the image first, so that none drowns the others:
    paths are near 1/N^2, velocities up to 1.

    Args:
        steps: two or more steps as `Chain` takes them.

    Raises:
        InputError: fewer than two steps, or one that cannot be called.

    >>> import lpprop
    >>> maps = Fusion(lpprop.OptimalPath(), lpprop.MaxVelocity())
    >>> chain = lpprop.Chain(lpprop.ClassDistribution(), maps)
    >>> chain(torch.rand(1, 5, 4, 4), feats=torch.rand(1, 8, 4, 4)).shape
    torch.Size([1, 5, 4, 4])
    """

    def __init__(self, *steps: Callable[..., Tensor]) -> None:
        """Take the steps."""
        super().__init__()
        if len(steps) < 2:
            raise InputError.of(
                "steps", got=str(len(steps)), expected="two or more", fix="Add the maps to fuse."
            )
        self.steps = nn.ModuleList(
            step if isinstance(step, Chain) else Chain(step) for step in steps
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """The inputs that some step cannot do without."""
        names = [name for step in self.steps for name in getattr(step, "needs", ())]
        return tuple(dict.fromkeys(names))

    def forward(
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        feats: Tensor | None = None,
        image: Tensor | None = None,
        attention: Tensor | None = None,
    ) -> Float[Tensor, "B C h w"]:
        """Add the maps; each step is given all inputs."""
        maps = [step(logits, feats=feats, image=image, attention=attention) for step in self.steps]
        return torch.stack([_scaled(scores) for scores in maps]).sum(0)


def _scaled(scores: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    largest = scores.abs().amax((1, 2, 3), keepdim=True)
    return scores / torch.where(largest > 0, largest, 1.0)
