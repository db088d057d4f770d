"""Geometry between two models that see one image by grids of different patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop.refiners import bilinear_upsample

__all__ = ["sample_on_grid"]


def sample_on_grid(
    logits: Float[Tensor, "B C h w"],
    own_span: tuple[int, int],
    span: tuple[int, int],
    grid: tuple[int, int],
) -> Float[Tensor, "B C y x"]:
    """Sample logits bilinearly at the centres of another grid, which spans other pixels.

    Both grids begin at the image's upper left corner. Beyond the outermost centres the outermost
    value holds.

    Args:
        logits: the scores on their own grid.
        own_span: the pixels (height, width) that their grid spans.
        span: the pixels that the other grid spans.
        grid: (y, x) of the other grid.

    >>> sample_on_grid(torch.tensor([[[[0.0, 1.0]]]]), (1, 4), (1, 6), (1, 3))
    tensor([[[[0., 1., 1.]]]])
    """
    if own_span == span:
        return bilinear_upsample(logits, grid)
    y, x = (
        (torch.arange(cells, device=logits.device) + 0.5) * (2 * pixels / (cells * own)) - 1
        for cells, pixels, own in zip(grid, span, own_span, strict=True)
    )
    places = torch.stack(torch.broadcast_tensors(x, y[:, None]), -1).to(logits.dtype)
    return F.grid_sample(
        logits,
        places.expand(len(logits), -1, -1, -1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
