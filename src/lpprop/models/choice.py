"""Which classes a segmenter refines, and whether a pixel may belong to none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import check_integer
from lpprop.inputs.background import (
    add_background,
    add_name,
    check_background,
    mark_background,
)
from lpprop.inputs.classes import merge_classes
from lpprop.inputs.left_out import bring_back
from lpprop.inputs.selection import find_classes
from lpprop.refiners import bilinear_upsample

__all__ = ["Choice"]


@dataclass(frozen=True)
class Choice:
    """What a segmenter does with many classes, and with pixels of no class.

    Attributes:
        background: the threshold below which a pixel is none of the classes; None for no such.
        top_classes: how many classes are refined; all if None.
        independent: whether scores are probabilities already, of each class by itself, which the
            threshold is compared with as they are.

    Raises:
        InputError: a threshold outside [0, 1], or fewer than two classes.

    >>> Choice(background=0.4).label_names(["cat", "sofa"])
    ['cat', 'sofa', 'none of these']
    """

    background: float | None = None
    top_classes: int | None = None
    independent: bool = False

    def __post_init__(self) -> None:
        if self.background is not None:
            check_background("background", self.background)
        if self.top_classes is not None:
            # A single class would be the label of every pixel.
            check_integer("top_classes", self.top_classes, low=2)

    def __repr__(self) -> str:
        """Show what is not the default."""
        return "".join(
            f", {name}={value}"
            for name, value in (("background", self.background), ("top_classes", self.top_classes))
            if value is not None
        )

    def label_names(self, class_names: list[str]) -> list[str]:
        """Return the names of the result's channels.

        Raises:
            InputError: a single class beside a background, or one that has its name.
        """
        if self.background is None:
            return class_names
        if len(class_names) == 1 and not self.independent:
            raise InputError.of(
                "background",
                got=f"it beside the single class {class_names[0]!r}",
                expected="two classes or more, of whose scores each has a share",
                fix="Name what else is in the images, or what the class is mistaken for.",
            )
        return add_name(class_names)

    def apply(
        self,
        logits: Float[Tensor, "n Q h w"],
        groups: Sequence[Sequence[int]],
        refine: Callable[[Tensor], Tensor],
        size: tuple[int, int],
        logit_scale: float | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Refine the scores of the classes that are in the images, and bring them to their size.

        Args:
            logits: of classes or prompts, on the grid; of each image, or of the windows of one.
            groups: the channels of each class.
            refine: refines scores (B, K, h, w).
            size: (H, W) of the result.
            logit_scale: as `select_classes` takes it.

        Returns:
            A channel per class, -inf for those that are not refined, and one for the background.
        """
        kept = None
        if self.top_classes is not None and len(groups) > self.top_classes:
            kept = find_classes(
                merge_classes(logits, groups), top=self.top_classes, logit_scale=logit_scale
            )
            groups = [group for group, stays in zip(groups, kept.tolist(), strict=True) if stays]
            channels = list(dict.fromkeys(channel for group in groups for channel in group))
            logits = logits[:, channels]
            groups = [[channels.index(channel) for channel in group] for group in groups]
        # Where the backbone scores prompts, they are merged after the refinement, as in LPOSS.
        scores = bilinear_upsample(merge_classes(refine(logits), groups), size)
        if self.background is not None:
            mark = add_background if self.independent else mark_background
            scores = mark(scores, self.background)
            kept = kept if kept is None else torch.cat([kept, kept.new_ones(1)])
        return scores if kept is None else bring_back(scores, kept)
