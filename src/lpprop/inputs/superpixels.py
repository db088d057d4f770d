"""Superpixels: regions of one colour, from the image alone, through scikit-image.

Both are proposers. One with other settings is `functools.partial(slic, n_segments=1000)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.optional import import_hint
from lpprop._core.options import check_above_0, check_from_0, check_integer, checked
from lpprop._core.precision import full_precision

__all__ = ["felzenszwalb", "slic"]


@full_precision
@checked(n_segments=check_integer, compactness=check_above_0)
def slic(
    image: Float[Tensor, "B 3 H W"], *, n_segments: int = 400, compactness: float = 10.0
) -> Int[Tensor, "B H W"]:
    """Cut an image into superpixels of about equal size (SLIC; Achanta et al., TPAMI 2012).

    K-means of the pixels by (Lab colour, compactness x position / spacing), started on a grid of
    centres; each region is connected. The result depends on no random numbers.

    Args:
        image: RGB in [0, 1], shape (B, 3, H, W).
        n_segments: about how many regions an image gets, at least 1. Of 150, 400 and 1000 on street
            pictures (docs/transformer_study.md), fewer mended scattered errors more, and more
            regions harmed all other scores less.
        compactness: the weight of the position against the colour, above 0.

    Returns:
        The region of each pixel, (B, H, W) int64 on the image's device; an image's regions are
        numbered from 0.

    Raises:
        InputError: not three channels, values that are not finite or outside [0, 1], or an option
            out of range.
        ImportError: scikit-image is absent.

    >>> halves = torch.zeros(1, 3, 6, 8)
    >>> halves[..., 4:] = 1.0
    >>> slic(halves, n_segments=2)[0, 0]
    tensor([0, 0, 0, 0, 1, 1, 1, 1])
    """

    def cut(pixels: NDArray[np.float64]) -> NDArray[Any]:
        found: NDArray[Any] = _segmentation().slic(
            pixels, n_segments=n_segments, compactness=compactness, start_label=0
        )
        return found

    return _each_image(cut, image)


@full_precision
@checked(scale=check_above_0, sigma=check_from_0, min_size=check_integer)
def felzenszwalb(
    image: Float[Tensor, "B 3 H W"],
    *,
    scale: float = 100.0,
    sigma: float = 0.5,
    min_size: int = 50,
) -> Int[Tensor, "B H W"]:
    """Cut an image into regions of one colour (Felzenszwalb and Huttenlocher, IJCV 2004).

    Two neighbouring regions R and S are joined where the smallest difference of colour across their
    border is at most min(d(R) + scale / |R|, d(S) + scale / |S|), with d the largest difference
    that a region's own spanning tree has.

    Args:
        image: RGB in [0, 1], shape (B, 3, H, W).
        scale: larger gives larger regions; above 0, for colours of 0 to 255. The default was the
            best of 30, 100 and 300 for coarse scores (docs/transformer_study.md).
        sigma: standard deviation of the Gaussian that smooths the image first, in pixels; from 0.
        min_size: the least number of pixels of a region; smaller ones join a neighbour.

    Returns:
        The region of each pixel, (B, H, W) int64 on the image's device; an image's regions are
        numbered from 0.

    Raises:
        InputError: not three channels, values that are not finite or outside [0, 1], or an option
            out of range.
        ImportError: scikit-image is absent.

    >>> halves = torch.zeros(1, 3, 6, 8)
    >>> halves[..., 4:] = 1.0
    >>> felzenszwalb(halves, sigma=0, min_size=5)[0, 0]
    tensor([0, 0, 0, 0, 1, 1, 1, 1])
    """

    def cut(pixels: NDArray[np.float64]) -> NDArray[Any]:
        found: NDArray[Any] = _segmentation().felzenszwalb(
            pixels, scale=scale, sigma=sigma, min_size=min_size
        )
        return found

    return _each_image(cut, image)


def _segmentation() -> Any:
    with import_hint("scikit-image cannot be imported: pip install 'lpprop[regions]'"):
        import skimage.segmentation
    return skimage.segmentation


def _each_image(
    cut: Callable[[NDArray[np.float64]], NDArray[Any]], image: Float[Tensor, "B 3 H W"]
) -> Int[Tensor, "B H W"]:
    """Number the regions of each image by a function of its pixels (H, W, 3)."""
    check_tensors(image=(image, "B 3 H W"))
    # The slack beyond [0, 1] that images of float16 may have is none for scikit-image.
    pixels = image.detach().cpu().double().clamp(0, 1).movedim(1, -1).numpy()
    found = [torch.from_numpy(np.ascontiguousarray(cut(one), dtype=np.int64)) for one in pixels]
    return torch.stack(found).to(image.device)
