"""The pixels that a grid of patches covers, if they are not exactly those of the image."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.scans import pass_on

__all__ = ["cover"]


def cover(pixels: Float[Tensor, "B F H W"], size: tuple[int, int]) -> Float[Tensor, "B F y x"]:
    """Cut at the bottom and right, or repeat the last row and column, until the size is reached.

    >>> import torch
    >>> cover(torch.tensor([[[[1.0, 2.0, 3.0]]]]), (2, 2))
    tensor([[[[1., 2.],
              [1., 2.]]]])
    """
    height, width = size
    pixels = pixels[..., :height, :width]
    missing = (0, width - pixels.shape[-1], 0, height - pixels.shape[-2])
    return pass_on(pixels, F.pad(pixels, missing, mode="replicate")) if any(missing) else pixels
