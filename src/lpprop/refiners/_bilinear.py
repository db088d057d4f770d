"""Bilinear upsampling, the plain way from patches to pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_axes, check_tensors
from lpprop._core.options import check_size
from lpprop._core.precision import compute_dtype, uncompiled
from lpprop._core.refiner import Refiner
from lpprop._core.scans import mark_passed
from lpprop.numerics.twins import match_twins

__all__ = ["BilinearUpsample", "bilinear_upsample"]


@uncompiled
def bilinear_upsample(
    x: Float[Tensor, "B C h w"], size: tuple[int, int]
) -> Float[Tensor, "B C H W"]:
    """Resample scores bilinearly, with grids aligned at their outer edges (align_corners=False).

    Args:
        x: scores (B, C, h, w) in any floating-point dtype.
        size: (H, W) of the result.

    Returns:
        Scores (B, C, H, W) in the dtype of `x`. Differentiable.

    Raises:
        InputError: not four axes, an empty axis, values that are not finite, or a bad size.

    >>> import torch
    >>> bilinear_upsample(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    tensor([[[[0.0000, 0.2500, 0.7500, 1.0000]]]])
    """
    check_tensors(x=(x, "B C h w"))
    size = check_size("size", size)
    # Row by row, since interpolate rounds otherwise for other strides.
    upsampled = F.interpolate(x.to(compute_dtype(x)).contiguous(), size, mode="bilinear")
    largest = torch.finfo(upsampled.dtype).max
    if float(x.detach().abs().amax()) > largest / 2:  # a mean may round to infinity
        upsampled = upsampled.clamp(-largest, largest)
    upsampled = match_twins(upsampled.to(x.dtype), x)
    mark_passed(upsampled)  # since means of finite values are finite
    return upsampled


class BilinearUpsample(Refiner, function=bilinear_upsample, takes=("image", "windows")):
    """`bilinear_upsample` to the image's size as a module; it also merges sliding windows.

    With `windows`, each window is upsampled to its pixels, and overlaps are averaged. Without
    windows and without an image the size is unknown, and the scores stay on their grid.

    >>> import torch
    >>> BilinearUpsample()(torch.rand(1, 5, 4, 4), image=torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 5, 64, 64])
    """

    merges_windows = True

    def _call(self, logits: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        windows, image = inputs.get("windows"), inputs.get("image")
        if windows is not None:
            return match_twins(windows.merge(logits), logits, joined=True)
        if image is None:
            check_tensors(logits=(logits, "B C h w"))
            return logits
        sizes = check_axes(logits=(logits, "B C h w"), image=(image, "B 3 H W"))
        return bilinear_upsample(logits, (sizes["H"], sizes["W"]))
