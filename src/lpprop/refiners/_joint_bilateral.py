"""Joint bilateral upsampling: from patches to pixels along the edges of the image.

Kopf, Cohen, Lischinski, Uyttendaele: Joint Bilateral Upsampling, SIGGRAPH 2007. The constants are
those of DSLO (arXiv:2604.07723, Eq. 23).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.memory import check_room
from lpprop._core.options import check_integer, check_number, check_size, checked
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.refiner import Refiner
from lpprop.kernels import portable
from lpprop.kernels.dispatch import check_backend, kernels_for
from lpprop.kernels.interface import Kernels
from lpprop.numerics.twins import match_twins

__all__ = ["JointBilateralUpsample", "find_points", "joint_bilateral_upsample"]

# Multiply-adds from which compiling pays off: PyTorch then takes longer by as much as it takes.
_WORTH_COMPILING = 1e9
# What the weights and sums of a block take in PyTorch, measured.
_BLOCKS_BYTES = 16 * 2**20

_positive = partial(check_number, low=1e-9, high=1e9)


@full_precision
@checked(
    sigma_space=_positive,
    sigma_range=_positive,
    radius=partial(check_integer, low=0),
    size=lambda name, size: None if size is None else check_size(name, size),
    backend=check_backend,
)
def joint_bilateral_upsample(
    x: Float[Tensor, "B C h w"],
    image: Float[Tensor, "B 3 H W"],
    *,
    sigma_space: float = 1.0,
    sigma_range: float = 0.1**0.5,
    radius: int = 3,
    size: tuple[int, int] | None = None,
    backend: str = "auto",
) -> Float[Tensor, "B C y x"]:
    """Upsample scores so that their borders follow those of the image.

    Each pixel p takes a mean of the scores at the grid points q around it, in which points that are
    near and of a similar colour weigh more:

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
        radius: radius of the square of grid points, in cells, >= 0.
        size: (H', W') of the result, the image's if None. For another size the image is sampled
            bilinearly at the centres of the result's pixels.
        backend: "torch", "llvm" (compiled code for a CPU), "triton" (a GPU), or "auto", the
            fastest that is installed and pays off; all agree to rounding.

    Returns:
        Scores (B, C, H, W), or of `size`, in the dtype of `x`; computed in that dtype, float32 at
        least. Differentiable in `x`, and in `image` with backend "torch", which "auto" then takes.

    Raises:
        InputError: shapes that do not match, values that are not finite, an image outside [0, 1],
            an option out of range, or a backend that is not installed or cannot do this.

    >>> image = torch.zeros(1, 3, 4, 6)
    >>> image[..., 3:] = 1                                  # a black and a white half
    >>> x = torch.tensor([[[[0.0, 1.0]]]])
    >>> joint_bilateral_upsample(x, image)[0, 0, 0].round(decimals=3)
    tensor([0., 0., 0., 1., 1., 1.])
    """
    check_tensors(x=(x, "B C h w"), image=(image, "B 3 H W"))
    size = (image.shape[-2], image.shape[-1]) if size is None else (size[0], size[1])
    work = x.shape[1] * math.prod(size) * _count_points(x, radius)
    kernels = kernels_for(backend, x, ("image", image), work, worth=_WORTH_COMPILING)
    _check_room(x, size, radius, compiled=kernels is not portable)

    dtype, grid = compute_dtype(x), (x.shape[-2], x.shape[-1])
    guide = image.to(dtype)
    # Divided once per colour, and not once per pair of a pixel and a point.
    points = F.interpolate(guide, grid, mode="bilinear") / sigma_range
    if guide.shape[-2:] != size:
        guide = F.interpolate(guide, size, mode="bilinear")
    pixels = guide / sigma_range
    rows, columns = (
        find_points(pixel, point, radius, sigma_space, pixels)
        for pixel, point in zip(size, grid, strict=True)
    )
    # One item at a time, so that memory does not grow with the batch.
    items = zip(x.to(dtype), points, pixels, strict=True)
    upsample = kernels.upsample if kernels is portable else partial(_Upsample.apply, kernels)
    every = [upsample(*item, rows, columns) for item in items]
    scores = torch.stack(every) if len(every) > 1 else every[0][None]
    return cast_back(match_twins(scores, x), x, "x")


def _count_points(x: Tensor, radius: int) -> int:
    """Return how many points of the grid are around a pixel at most."""
    return math.prod(min(2 * radius + 1, 2 * side - 1) for side in x.shape[-2:])


def _check_room(x: Tensor, size: tuple[int, int], radius: int, *, compiled: bool) -> None:
    """Refuse a result that does not fit into memory, before any work.

    Items are made one by one, from blocks of rows, and then joined: either takes a copy. Compiled
    code has an eighth of an item in blocks.
    """
    plane = math.prod(size) * compute_dtype(x).itemsize
    item = x.shape[1] * plane
    needed = 2 * len(x) * item if len(x) > 1 or not compiled else 9 * item // 8
    needed += 3 * plane
    if not compiled:
        needed += min(_BLOCKS_BYTES, 4 * _count_points(x, radius) * plane)
    check_room(
        "x",
        f"{x.shape[1]} classes of {size[0]} x {size[1]} pixels, whose upsampling needs",
        needed,
        x.device,
        "Pass a smaller size, or some classes at a time.",
    )


def find_points(
    pixels: int, points: int, radius: int, sigma: float, like: Tensor
) -> tuple[Int[Tensor, " pixels"], Float[Tensor, "pixels k"]]:
    """Find the grid point nearest to each pixel, and -(p' - q)^2 / sigma^2 for those around it."""
    # (p + 0.5) points / pixels - 0.5 as one fraction, so that ties in the rounding are exact.
    place = ((2 * torch.arange(pixels) + 1) * points - pixels).double() / (2 * pixels)
    centre = place.round().long().clamp(0, points - 1)
    reach = min(radius, points - 1)
    around = centre[:, None] + torch.arange(-reach, reach + 1)
    inside = (around >= 0) & (around < points)
    exponents = (-((place[:, None] - around) ** 2) / sigma**2).masked_fill(~inside, -torch.inf)
    return centre.to(like.device), exponents.to(like)


class _Upsample(torch.autograd.Function):
    """Upsampling by another backend, with the gradient of PyTorch's."""

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, x: Tensor, *rest: Any) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rest = rest
        return kernels.upsample(x, *rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = portable.upsample(x, *ctx.rest)
            (grad_x,) = torch.autograd.grad(y, x, grad, create_graph=again)
        return None, grad_x, *(None for _ in ctx.rest)


class JointBilateralUpsample(
    Refiner, function=joint_bilateral_upsample, needs=("image",), takes=("windows",)
):
    """`joint_bilateral_upsample` as a module; sliding windows are upsampled and then merged.

    >>> step = JointBilateralUpsample(radius=2)
    >>> step(torch.rand(1, 5, 4, 4), image=torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 5, 64, 64])
    """

    merges_windows = True
    size: tuple[int, int] | None
    radius: int
    backend: str

    def check_room(self, logits: Tensor, inputs: Mapping[str, Any]) -> None:
        """Refuse an image whose upsampling does not fit into memory."""
        image, windows = inputs.get("image"), inputs.get("windows")
        if image is not None:
            pixels = (image.shape[-2], image.shape[-1]) if windows is None else windows.crop_size
            compiled = self.backend in ("auto", "llvm", "triton")  # which takes less
            _check_room(logits, self.size or pixels, self.radius, compiled=compiled)

    def _call(self, logits: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        windows, image = inputs.get("windows"), inputs["image"]
        if windows is None:
            return joint_bilateral_upsample(logits, image, **self.config)
        crops = joint_bilateral_upsample(logits, windows.split(image), **self.config)
        return match_twins(windows.merge(crops), logits, joined=True)
