"""Geometry between two models that see one image: its edges, and grids of different patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop.refiners import bilinear_upsample

__all__ = ["extend_edges", "sample_on_grid"]


def extend_edges(
    image: Float[Tensor, "B 3 H W"], size: tuple[int, int]
) -> Float[Tensor, "B 3 y x"]:
    """Repeat the bottom and the right edge up to a size.

    >>> extend_edges(torch.tensor([1.0, 2.0]).expand(1, 3, 1, 2), (2, 3))[0, 0]
    tensor([[1., 2., 2.],
            [1., 2., 2.]])
    """
    below, right = (wanted - side for wanted, side in zip(size, image.shape[-2:], strict=True))
    return F.pad(image, (0, right, 0, below), mode="replicate")


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
