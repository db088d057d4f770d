"""Which classes a segmenter refines, and whether a pixel may belong to none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
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

__all__ = ["Choice", "Chosen"]


class Chosen(NamedTuple):
    """The scores that are refined.

    Attributes:
        logits: those of the classes, or prompts, that take part.
        groups: the channels of each class.
        kept: (C,) which classes take part; None if all do.
    """

    logits: Float[Tensor, "n Q h w"]
    groups: Sequence[Sequence[int]]
    kept: Bool[Tensor, " C"] | None


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

    def choose(
        self,
        logits: Float[Tensor, "n Q h w"],
        groups: Sequence[Sequence[int]],
        logit_scale: float | None = None,
    ) -> Chosen:
        """Choose the classes that are in the images.

        Args:
            logits: of classes or prompts, on the grid; of each image, or of the windows of one.
            groups: the channels of each class.
            logit_scale: as `select_classes` takes it.
        """
        if self.top_classes is None or len(groups) <= self.top_classes:
            return Chosen(logits, groups, None)
        kept = find_classes(
            merge_classes(logits, groups), top=self.top_classes, logit_scale=logit_scale
        )
        groups = [group for group, stays in zip(groups, kept.tolist(), strict=True) if stays]
        channels = list(dict.fromkeys(channel for group in groups for channel in group))
        groups = [[channels.index(channel) for channel in group] for group in groups]
        return Chosen(logits[:, channels], groups, kept)

    def finish(
        self, refined: Float[Tensor, "B Q y x"], chosen: Chosen, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Bring refined scores to the images' size, and the other classes back.

        Returns:
            A channel per class, -inf for those that are not refined, and one for the background.
        """
        # Where the backbone scores prompts, they are merged after the refinement, as in LPOSS.
        scores, kept = bilinear_upsample(merge_classes(refined, chosen.groups), size), chosen.kept
        if self.background is not None:
            mark = add_background if self.independent else mark_background
            scores = mark(scores, self.background)
            kept = kept if kept is None else torch.cat([kept, kept.new_ones(1)])
        return scores if kept is None else bring_back(scores, kept)
