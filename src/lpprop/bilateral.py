"""Joint bilateral upsampling: from patches to pixels along the edges of the image.

Kopf, Cohen, Lischinski, Uyttendaele: Joint Bilateral Upsampling, SIGGRAPH 2007; with the constants
of DSLO (arXiv:2604.07723, Eq. 23).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lpprop.checks import (
    Check,
    check_image,
    check_integer,
    check_number,
    check_options,
    check_size,
    check_tensors,
    needed,
)
from lpprop.precision import compute_dtype, full_precision, returned
from lpprop.refiner import Refiner
from lpprop.windows import SlidingWindows

__all__ = ["JointBilateralUpsample", "joint_bilateral_upsample"]

# The weights of a block of pixels; it stays in the cache of a CPU. Measured on two cores.
_BLOCK_BYTES = 4 * 2**20

_positive = partial(check_number, low=1e-9, high=1e9)
_CHECKS: dict[str, Check] = {
    "sigma_space": _positive,
    "sigma_range": _positive,
    "radius": partial(check_integer, low=0),
    "size": lambda name, size: size is None or check_size(name, size),
}


@full_precision
def joint_bilateral_upsample(
    x: Float[Tensor, "B C h w"],
    image: Float[Tensor, "B 3 H W"],
    *,
    sigma_space: float = 1.0,
    sigma_range: float = 0.1**0.5,
    radius: int = 3,
    size: tuple[int, int] | None = None,
) -> Float[Tensor, "B C y x"]:
    """Upsample scores so that their borders follow those of the image.

    Each pixel p takes the mean of the scores at the grid points q around it, of those the more
    that are near and of a like colour:

        out(p) = sum_q x(q) f(p, q) g(p, q) / sum_q f(p, q) g(p, q)
        f = exp(-|p' - q|^2 / sigma_space^2),   g = exp(-|I(p) - I(q)|^2 / sigma_range^2)

    p' = (p + 0.5) (h / H, w / W) - 0.5 is the place of p on the grid, q runs over the points of the
    grid within `radius` of round(p') in each direction, and I(q) is the image sampled bilinearly
    at the centre of cell q.

    Args:
        x: (B, C, h, w) scores.
        image: (B, 3, H, W) RGB in [0, 1].
        sigma_space: reach over the grid, in cells, from 1e-9.
        sigma_range: reach over colours, in the image's unit, from 1e-9.
        radius: of the square of grid points, in cells, >= 0.
        size: (H', W') of the result, the image's if None; another one samples the image
            bilinearly at the centres of the result's pixels.

    Returns:
        Scores (B, C, H, W), or of `size`, in the dtype of `x`; computed in that dtype, float32 at
        least. Differentiable in both.

    Raises:
        InputError: shapes that do not match, values that are not finite, an image outside [0, 1],
            or an option out of range.

    >>> image = torch.zeros(1, 3, 4, 6)
    >>> image[..., 3:] = 1                                  # a black and a white half
    >>> x = torch.tensor([[[[0.0, 1.0]]]])
    >>> joint_bilateral_upsample(x, image)[0, 0, 0].round(decimals=3)
    tensor([0., 0., 0., 1., 1., 1.])
    """
    check_tensors(x=(x, "B C h w"), image=(image, "B 3 H W"))
    check_image(image)
    options = {
        "sigma_space": sigma_space, "sigma_range": sigma_range, "radius": radius, "size": size,
    }  # fmt: skip
    check_options(_CHECKS, options)
    size = (image.shape[-2], image.shape[-1]) if size is None else (size[0], size[1])

    dtype, grid = compute_dtype(x), (x.shape[-2], x.shape[-1])
    guide = image.to(dtype)
    # The colours of grid points and pixels, as fractions of sigma_range.
    points = F.interpolate(guide, grid, mode="bilinear") / sigma_range
    if guide.shape[-2:] != size:
        guide = F.interpolate(guide, size, mode="bilinear")
    pixels = guide / sigma_range
    rows, columns = (
        _axis(pixel, point, radius, sigma_space, pixels)
        for pixel, point in zip(size, grid, strict=True)
    )
    # An item at a time: memory does not grow with the batch.
    items = zip(x.to(dtype), points, pixels, strict=True)
    scores = [_upsampled(*item, rows, columns) for item in items]
    return returned(torch.stack(scores), x, "x")


class _Axis(NamedTuple):
    """Pixels along one axis in groups that round to the same grid point, n of up to m pixels.

    Attributes:
        pixels: of each group; short groups repeat their last.
        places: where each pixel stands among the groups.
        points: the grid points around each group; those outside the grid repeat the edge.
        exponents: -(p' - q)^2 / sigma_space^2 of each; minus infinity outside the grid.
    """

    pixels: Int[Tensor, "n m"]
    places: Int[Tensor, " pixels"]
    points: Int[Tensor, "n k"]
    exponents: Float[Tensor, "n m k"]


def _axis(pixels: int, points: int, radius: int, sigma: float, like: Tensor) -> _Axis:
    # (p + 0.5) points / pixels - 0.5 as one fraction, which is exact where the rounding ties.
    place = ((2 * torch.arange(pixels) + 1) * points - pixels).double() / (2 * pixels)
    centre = place.round().long().clamp(0, points - 1)
    cells, group, counts = centre.unique_consecutive(return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    within = torch.arange(int(counts.max()))
    members = first[:, None] + within.minimum(counts[:, None] - 1)

    reach = min(radius, points - 1)
    around = cells[:, None] + torch.arange(-reach, reach + 1)
    inside = (around >= 0) & (around < points)
    distance = place[members][:, :, None] - around[:, None, :]
    exponents = (-(distance**2) / sigma**2).masked_fill(~inside[:, None, :], -torch.inf)
    places = group * len(within) + torch.arange(pixels) - first[group]
    device = like.device
    return _Axis(
        members.to(device),
        places.to(device),
        around.clamp(0, points - 1).to(device),
        exponents.to(like),
    )


def _upsampled(
    x: Float[Tensor, "C h w"],
    points: Float[Tensor, "3 h w"],
    pixels: Float[Tensor, "3 y x"],
    rows: _Axis,
    columns: _Axis,
) -> Float[Tensor, "C y x"]:
    """Upsample one item, some rows of cells at a time.

    All pixels of a cell share their grid points, so the weighted sums of a cell are one product
    of its weights (pixels x points) and the scores there (points x classes).
    """
    (n, m), k = columns.pixels.shape, columns.points.shape[1] * rows.points.shape[1]
    height = rows.pixels.shape[1]
    step = max(1, _BLOCK_BYTES // (n * m * height * k * x.element_size()))
    parts = []
    for start in range(0, len(rows.pixels), step):
        part = slice(start, start + step)
        scores = _cells(x, rows.points[part], columns.points)
        near = _cells(points, rows.points[part], columns.points)
        own = _cells(pixels, rows.pixels[part], columns.pixels)
        spatial = (
            rows.exponents[part][:, None, :, None, :, None]
            + columns.exponents[None, :, None, :, None, :]
        )
        exponent = spatial.flatten(4).flatten(2, 3)
        for a, b in zip(own, near, strict=True):  # a channel at a time: nothing larger than this
            difference = a[..., :, None] - b[..., None, :]
            exponent = torch.addcmul(exponent, difference, difference, value=-1)
        # The softmax divides by the sum, and by the largest weight first: none is lost.
        mixed = exponent.softmax(-1) @ scores.movedim(0, -1)
        tiles = mixed.unflatten(2, (-1, m)).permute(4, 0, 2, 1, 3).flatten(1, 2).flatten(2)
        first, end = height * start, height * (start + tiles.shape[1] // height)
        places = rows.places[(rows.places >= first) & (rows.places < end)] - first
        parts.append(tiles[:, places[:, None], columns.places])
    return torch.cat(parts, 1)


def _cells(
    planes: Float[Tensor, "F y x"], rows: Int[Tensor, "n a"], columns: Int[Tensor, "m b"]
) -> Float[Tensor, "F n m a*b"]:
    """Gather what belongs to each cell: cells down, cells across, members of the cell."""
    return planes[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3)


class JointBilateralUpsample(
    Refiner, function=joint_bilateral_upsample, needs=("image",), checks=_CHECKS
):
    """`joint_bilateral_upsample` as a module; sliding windows are upsampled and then merged.

    >>> step = JointBilateralUpsample(radius=2)
    >>> step(torch.rand(1, 5, 4, 4), image=torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 5, 64, 64])
    """

    merges_windows = True

    def forward(
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        feats: Tensor | None = None,
        image: Tensor | None = None,
        attention: Tensor | None = None,
        windows: SlidingWindows | None = None,
    ) -> Float[Tensor, "_ C H W"]:
        """Upsample; `feats` and `attention` are ignored."""
        guide = needed("image", image)
        if windows is None:
            return joint_bilateral_upsample(logits, guide, **self.config)
        crops = joint_bilateral_upsample(logits, windows.split(guide), **self.config)
        return windows.merge(crops)
