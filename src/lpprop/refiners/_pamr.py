"""PAMR: each pixel repeatedly takes the mean of neighbours of a similar colour.

Araslanov, Roth: Single-Stage Semantic Segmentation from Image Labels, CVPR 2020, Section 3.3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.options import check_integer, checked, is_listed
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.refiner import Refiner

__all__ = ["PAMR", "pamr"]

# Size of the classes that are refined at once: on a CPU they stay in the cache.
_CACHE_BYTES = 2**18
_CHUNK_BYTES = 2**26


def _check_dilations(name: str, value: object) -> tuple[int, ...]:
    if not is_listed(value) or len(value) == 0:
        raise InputError.of(
            name, got=repr(value), expected="at least one integer", fix=f"Pass {name}=(8, 16)."
        )
    return tuple(check_integer(f"{name}[{i}]", dilation) for i, dilation in enumerate(value))


@full_precision
@checked(iterations=partial(check_integer, low=0), dilations=_check_dilations)
def pamr(
    x: Float[Tensor, "B C H W"],
    image: Float[Tensor, "B 3 H W"],
    *,
    iterations: int = 5,
    dilations: Sequence[int] = (8, 16),
) -> Float[Tensor, "B C H W"]:
    """Refine scores at pixels by those of neighbours of a similar colour (PAMR).

    With N(i) the 8 neighbours of pixel i in a 3x3 square per dilation, and sigma the standard
    deviation of a channel over these squares, i itself included,

        k_ij = -mean over the channels of |I_i - I_j| / (0.1 sigma_i + 1e-8)
        a_ij = exp k_ij / sum_l exp k_il,   x_i <- sum_j a_ij x_j,   `iterations` times

    The scale is 0.1 sigma, with n - 1 in the deviation, and pixels outside the image repeat its
    border, as in the authors' release, with which the literature compares.

    Neighbours are added one by one, so that memory grows with pixels x neighbours, and not with
    pixels x neighbours x classes.

    Args:
        x: (B, C, H, W) scores at the image's size.
        image: (B, 3, H, W) RGB in [0, 1].
        iterations: number of iterations, >= 0; 0 returns the scores.
        dilations: distances of the neighbours in pixels, at least one, each >= 1.

    Returns:
        Scores (B, C, H, W) in the dtype of `x`; computed in that dtype, float32 at least.
        Differentiable in `x` and in `image`.

    Raises:
        InputError: shapes that do not match, values that are not finite, an image outside [0, 1],
            or an option out of range.

    >>> image = torch.zeros(1, 3, 4, 6)
    >>> image[..., 3:] = 1                                  # a black and a white half
    >>> x = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 1.0]).expand(1, 1, 4, 6)
    >>> pamr(x, image, dilations=(1,))[0, 0, 0].round(decimals=2)
    tensor([0.2200, 0.2400, 0.2600, 1.0000, 1.0000, 1.0000])
    """
    check_tensors(x=(x, "B C H W"), image=(image, "B 3 H W"))

    dtype = compute_dtype(x)
    scores = torch.stack([
        _refine(item, guide, iterations, dilations)
        for item, guide in zip(x.to(dtype), image.to(dtype), strict=True)
    ])  # fmt: skip
    return cast_back(scores, x, "x")


def _refine(
    x: Float[Tensor, "C H W"],
    image: Float[Tensor, "3 H W"],
    iterations: int,
    dilations: Sequence[int],
) -> Float[Tensor, "C H W"]:
    weights = _compute_weights(image, dilations)
    room = _CACHE_BYTES if x.device.type == "cpu" else _CHUNK_BYTES
    chunk = max(1, room // x[0].nbytes)
    refined = []
    for part in x.split(chunk):
        for _ in range(iterations):
            total = torch.zeros_like(part)
            for weight, near in zip(weights, _shift_to_neighbours(part, dilations), strict=True):
                total = total.addcmul_(weight, near)
            part = total
        refined.append(part)
    return torch.cat(refined)


def _compute_weights(
    image: Float[Tensor, "3 H W"], dilations: Sequence[int]
) -> Float[Tensor, "n H W"]:
    """Compute the weights a_ij of 8 neighbours per dilation; they sum to 1 at each pixel."""
    exponent: Tensor | float = 0.0
    for channel in image:
        near = torch.stack(list(_shift_to_neighbours(channel[None], dilations)))[:, 0]
        distance = near - channel
        # Each square contains the pixel itself too, at distance 0.
        count = len(distance) + len(dilations)
        mean = distance.sum(0) / count
        squares = (distance - mean).square().sum(0) + len(dilations) * mean.square()
        # The root has no derivative at 0; the clamp is far below what 1e-8 lets through.
        sigma = (squares / (count - 1)).clamp_min(1e-24).sqrt()
        exponent = exponent - distance.abs() / (0.1 * sigma + 1e-8) / len(image)
    assert isinstance(exponent, Tensor)
    return exponent.softmax(0)


def _shift_to_neighbours(x: Float[Tensor, "C H W"], dilations: Sequence[int]) -> Iterator[Tensor]:
    """Yield the planes shifted to each neighbour of a pixel, square by square."""
    height, width = x.shape[-2:]
    for d in dilations:
        # From one border a neighbour further than the other is that border again.
        down, across = min(d, height - 1), min(d, width - 1)
        padded = F.pad(x[None], [across, across, down, down], mode="replicate")[0]
        for row, column in itertools.product(range(3), repeat=2):
            if (row, column) != (1, 1):
                top, left = row * down, column * across
                yield padded[:, top : top + height, left : left + width]


class PAMR(Refiner, function=pamr, needs=("image",)):
    """`pamr` as a module; it takes that function's options.

    >>> step = PAMR(iterations=2)
    >>> step(torch.rand(1, 5, 32, 32), image=torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 5, 32, 32])
    """

    iterations: int
    dilations: Sequence[int]

    @property
    def reach(self) -> int:
        """The farthest neighbour per iteration; the weights of the last need no pixels beyond."""
        return self.iterations * max(self.dilations)
