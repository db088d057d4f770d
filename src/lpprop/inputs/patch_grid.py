"""Where the patches of a grid lie in the image, and the pixels that they cover."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.scans import pass_on

__all__ = ["cover", "fit_patch_size", "patch_centres", "spans"]


def patch_centres(
    grid: tuple[int, int], patch_size: float, corners: Float[Tensor, "n 2"]
) -> Float[Tensor, "N 2"]:
    """Return the centres (y, x) of n windows' patches: y1 + p//2 + r p, x1 + p//2 + c p pixels."""
    rows, columns = (torch.arange(side, device=corners.device) for side in grid)
    steps = torch.cartesian_prod(rows, columns).to(corners.dtype)
    centres = corners[:, None] + patch_size // 2 + steps * patch_size
    return centres.flatten(0, 1)


def fit_patch_size(patch_size: float, grid: tuple[int, int], pixels: tuple[int, int]) -> float:
    """Return the patch size at which a grid spans an image; `patch_size` is a first guess.

    The guess is kept if grid x patch_size is within a patch of the image's size. Otherwise it is
    scaled by their ratio, so that distances are in pixels of that image.

    Raises:
        InputError: no patch size brings both height and width within a patch.
    """
    sides = list(zip(grid, pixels, strict=True))
    if all(abs(side * patch_size - length) < patch_size for side, length in sides):
        return patch_size
    low, high = _patch_sizes(grid, pixels)
    if low >= high:
        raise InputError.of(
            "feats",
            got=f"a grid of {grid[0]} x {grid[1]} patches for {pixels[0]} x {pixels[1]} pixels",
            expected="patches that are square in the image",
            fix="Pass the image as the backbone saw it (after its resizing or cropping), and "
            "size= for the size that the scores should have.",
        )
    ratio = math.sqrt(math.prod(pixels) / math.prod(grid))
    return ratio if low < ratio < high else (low + min(high, 2 * low)) / 2


def spans(grid: tuple[int, ...], pixels: tuple[int, int]) -> bool:
    """Tell whether a grid of square patches, of any size, spans the pixels to within a patch.

    >>> spans((14, 14), (224, 224)), spans((7, 7), (100, 100)), spans((14, 14), (480, 640))
    (True, True, False)
    """
    low, high = _patch_sizes(grid, pixels)
    return low < high


def cover(
    pixels: Shaped[Tensor, "*rest H W"], size: tuple[int, int]
) -> Shaped[Tensor, "*rest y x"]:
    """Cut at the bottom and right, or repeat the last row and column, until the size is reached.

    >>> cover(torch.tensor([[[[1.0, 2.0, 3.0]]]]), (2, 2))
    tensor([[[[1., 2.],
              [1., 2.]]]])
    """
    covered = pixels[..., : size[0], : size[1]]
    if tuple(covered.shape[-2:]) != size:
        rows, columns = (
            torch.arange(to, device=pixels.device).clamp_max(of - 1)
            for of, to in zip(covered.shape[-2:], size, strict=True)
        )
        covered = covered.index_select(-2, rows).index_select(-1, columns)
    return pass_on(pixels, covered)


def _patch_sizes(grid: tuple[int, ...], pixels: tuple[int, int]) -> tuple[float, float]:
    """Bound the patch sizes at which a grid spans the pixels to within a patch."""
    # n patches of size p span a length to within a patch if (n - 1) p < length < (n + 1) p.
    sides = list(zip(grid, pixels, strict=True))
    low = max(length / (side + 1) for side, length in sides)
    return low, min(length / (side - 1) if side > 1 else math.inf for side, length in sides)
