"""A segmentation halfway: the models have seen the image, and the refinement is to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from lpprop.compose.pipeline import refine

__all__ = ["Unrefined"]


@dataclass(frozen=True)
class Unrefined:
    """What the models have seen in an image, and what is left to do.

    Attributes:
        arguments: the keywords of `lpprop.refine`, the logits too.
        finish: makes the scores (1, C, H, W) of what `lpprop.refine` returns.
        class_names: the names of the scores' channels.
    """

    arguments: Mapping[str, Any]
    finish: Callable[[Tensor], Tensor]
    class_names: list[str] = field(default_factory=list)

    def refine(self) -> Float[Tensor, "B C H W"]:
        """Refine the scores, and finish them."""
        return self.finish(refine(**self.arguments))
