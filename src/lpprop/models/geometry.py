"""Geometry between two models that see one image by grids of different patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import check_integer
from lpprop.refiners import bilinear_upsample

__all__ = ["check_sides", "resize_image", "sample_on_grid", "seen_size"]


def check_sides(shorter_side: int | None, longer_side: int) -> tuple[int | None, int]:
    """Return the bounds on the sides at which models see an image.

    Raises:
        InputError: sides that are no integers >= 1, or a longer side below the shorter one.
    """
    if shorter_side is not None:
        shorter_side = check_integer("shorter_side", shorter_side)
    longer_side = check_integer("longer_side", longer_side)
    if shorter_side is not None and longer_side < shorter_side:
        raise InputError.of(
            "longer_side",
            got=str(longer_side),
            expected=f"at least shorter_side = {shorter_side}",
            fix="Pass a larger longer_side.",
        )
    return shorter_side, longer_side


def seen_size(size: tuple[int, int], shorter_side: int | None, longer_side: int) -> tuple[int, int]:
    """Return the size at which models see an image: the largest within both bounds, aspect kept.

    >>> seen_size((300, 600), 224, 400), seen_size((300, 600), None, 400)
    ((200, 400), (300, 600))
    """
    if shorter_side is None:
        return size
    scale = min(longer_side / max(size), shorter_side / min(size))
    height, width = (max(1, int(scale * side + 0.5)) for side in size)
    return height, width


def resize_image(
    image: Float[Tensor, "B 3 H W"], size: tuple[int, int], *, antialias: bool = True
) -> Float[Tensor, "B 3 Y X"]:
    """Resize an image in [0, 1] bilinearly; one of this size already is returned as it is."""
    if size == image.shape[-2:]:
        return image
    return F.interpolate(image, size, mode="bilinear", antialias=antialias).clamp(0, 1)


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
