"""Which of many masks of one image to keep: boxes, stability, and non-maximum suppression."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["box_iou", "mask_boxes", "stability", "suppress"]


def mask_boxes(masks: Bool[Tensor, "M H W"]) -> Int[Tensor, "M 4"]:
    """Return left, top, right and bottom pixel of each mask, the last two within; 0 where empty.

    >>> mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    >>> mask[0, 1:3, 2:6] = True
    >>> mask_boxes(mask)
    tensor([[2, 1, 5, 2]])
    """
    sides = []
    for filled in (masks.any(1), masks.any(2)):  # columns, rows
        length = filled.shape[1]
        first = filled.int().argmax(1)
        last = length - 1 - filled.flip(1).int().argmax(1)
        sides.append((first, torch.where(filled.any(1), last, 0)))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], 1)


def stability(logits: Float[Tensor, "M H W"], offset: float) -> Float[Tensor, " M"]:
    """Return how little each mask changes with its threshold: 0 for an empty one, at most 1.

        s = |{logits > offset}| / |{logits > -offset}|

    >>> stability(torch.tensor([[[3.0, 0.5, -0.5, -3.0]]]), 1.0)
    tensor([0.3333])
    """
    inner, outer = ((logits > level).sum((1, 2)) for level in (offset, -offset))
    return inner / outer.clamp(min=1)


def box_iou(box: Float[Tensor, 4], others: Float[Tensor, "M 4"]) -> Float[Tensor, " M"]:
    """Return the intersection over union of one box with others; 0 where both have no area.

    As in SAM's code, a box spans from its first to its last pixel, of which the last adds nothing.

    >>> box_iou(torch.tensor([0.0, 0, 4, 2]), torch.tensor([[2.0, 0, 4, 2], [9, 9, 9, 9]]))
    tensor([0.5000, 0.0000])
    """
    corner = torch.maximum(box[:2], others[:, :2])
    sides = (torch.minimum(box[2:], others[:, 2:]) - corner).clamp(min=0)
    common = sides.prod(1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - common
    return torch.where(union > 0, common / union.clamp(min=1e-9), 0.0)


def suppress(
    boxes: Int[Tensor, "M 4"], scores: Float[Tensor, " M"], overlap: float
) -> Int[Tensor, " K"]:
    """Return the boxes to keep, best first: of two that overlap by more, the better one.

    Of equal scores the first counts as the better one.

    >>> boxes = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 8], [5, 5, 9, 9]])
    >>> suppress(boxes, torch.tensor([0.8, 0.9, 0.5]), 0.7)
    tensor([1, 2])
    """
    # On the CPU, since each step waits for the one before, and there are few boxes.
    waiting = scores.cpu().argsort(descending=True, stable=True)
    corners = boxes.cpu().double()
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        waiting = waiting[box_iou(corners[best], corners[waiting]) <= overlap]
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)
