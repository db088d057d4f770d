"""The guided filter: scores as locally linear functions of the image's colours.

He, Sun, Tang: Guided Image Filtering, TPAMI 2013, Section 3.5 (a guide in colour).
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.options import check_integer, check_number, checked
from lpprop._core.precision import cast_back, full_precision, in_double
from lpprop._core.refiner import Refiner

__all__ = ["GuidedFilter", "guided_filter"]

# Size of the classes that are filtered at once, with eight planes each: about a CPU's cache.
_CHUNK_BYTES = 2**24


@full_precision
@checked(radius=partial(check_integer, low=0), eps=partial(check_number, low=1e-9, high=1e9))
def guided_filter(
    x: Float[Tensor, "B C H W"],
    image: Float[Tensor, "B 3 H W"],
    *,
    radius: int = 8,
    eps: float = 1e-4,
) -> Float[Tensor, "B C H W"]:
    """Filter scores at pixels by the image's colours (guided filter).

    In each square window w_k a linear function of the colour is fitted to the scores. A pixel takes
    the mean of the functions of all windows that contain it:

        a_k = (Sigma_k + eps U)^-1 (mean_k(I x) - mu_k mean_k(x)),   b_k = mean_k(x) - a_k . mu_k
        out_i = mean over k in w_i of a_k . I_i + b_k

    with mu_k and Sigma_k the mean and the covariance of the colours in w_k, and U the identity.
    Windows are cropped at the image's border. The time does not depend on the size of the windows.

    Args:
        x: (B, C, H, W) scores at the image's size.
        image: (B, 3, H, W) RGB in [0, 1].
        radius: radius of the windows in pixels, >= 0; a side is 2 radius + 1.
        eps: regularisation of the local linear fit, from 1e-9. Edges of a colour variance far below
            it are smoothed, and edges far above it are kept.

    Returns:
        Scores (B, C, H, W) in the dtype of `x`, computed in float64, on the CPU if the
        device has no float64. Differentiable in `x` and in `image`.

    Raises:
        InputError: shapes that do not match, values that are not finite, an image outside [0, 1],
            or an option out of range.

    >>> image = torch.zeros(1, 3, 4, 6)
    >>> image[..., 3:] = 1                                  # a black and a white half
    >>> x = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 1.0]).expand(1, 1, 4, 6)
    >>> guided_filter(x, image, radius=2)[0, 0, 0].round(decimals=1)
    tensor([0.3000, 0.4000, 0.5000, 1.0000, 1.0000, 1.0000])
    """
    check_tensors(x=(x, "B C H W"), image=(image, "B 3 H W"))

    # In float64, since windows are differences of running sums, of which a small eps needs digits.
    items = zip(in_double(x), in_double(image), strict=True)
    scores = torch.stack([_filter(item, guide, radius, eps) for item, guide in items])
    return cast_back(scores, x, "x").to(x.device)


def _filter(
    x: Float[Tensor, "C H W"], image: Float[Tensor, "3 H W"], radius: int, eps: float
) -> Float[Tensor, "C H W"]:
    mean = partial(_box_mean, radius=radius)
    mu = mean(image)
    products = mean((image[:, None] * image).flatten(0, 1)).reshape(3, 3, *mu.shape[1:])
    sigma = (products - mu[:, None] * mu).movedim((0, 1), (-2, -1))
    unit = torch.eye(3, dtype=sigma.dtype, device=sigma.device)
    inverse = torch.linalg.inv(sigma + eps * unit).movedim((-2, -1), (0, 1)).contiguous()

    filtered = []
    for part in x.split(max(1, _CHUNK_BYTES // (8 * x[0].nbytes))):
        centre = mean(part)
        covariance = mean(image * part[:, None]) - mu * centre[:, None]
        a = torch.stack([(row * covariance).sum(1) for row in inverse], 1)
        b = centre - (a * mu).sum(1)
        filtered.append((mean(a) * image).sum(1) + mean(b))
    return torch.cat(filtered)


def _box_mean(x: Float[Tensor, "... H W"], radius: int) -> Float[Tensor, "... H W"]:
    """Take the mean over the part of each square window that lies in the image."""
    for axis in (-2, -1):
        side = x.shape[axis]
        reach = min(radius, side)
        # Zeros on both sides make each window's sum the difference of two running sums.
        edges = [0, 0] * (-1 - axis) + [reach + 1, reach]
        sums = F.pad(x, edges).cumsum(axis)
        total = sums.narrow(axis, 2 * reach + 1, side) - sums.narrow(axis, 0, side)
        place = torch.arange(side, device=x.device)
        count = (place + reach).clamp_max(side - 1) - (place - reach).clamp_min(0) + 1
        x = total * count.to(x).reciprocal().reshape([-1] + [1] * (-1 - axis))
    return x


class GuidedFilter(Refiner, function=guided_filter, needs=("image",)):
    """`guided_filter` as a module; it takes that function's options.

    >>> step = GuidedFilter(radius=4)
    >>> step(torch.rand(1, 5, 32, 32), image=torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 5, 32, 32])
    """

    radius: int

    @property
    def reach(self) -> int:
        """The windows that contain a pixel reach to twice their radius."""
        return 2 * self.radius
