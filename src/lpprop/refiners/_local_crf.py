"""Local CRF: mean-field inference in DenseCRF's model, within a window around each pixel.

Teichmann, Cipolla: Convolutional CRFs for Semantic Segmentation, BMVC 2019 (ConvCRF), who cut the
two kernels of Krähenbühl and Koltun, NeurIPS 2011, to a square.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.memory import check_room
from lpprop._core.options import check_above_0, check_integer, check_number, checked
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.refiner import Refiner
from lpprop.inputs.probabilities import check_probabilities, check_scale, log_probabilities
from lpprop.kernels import portable
from lpprop.kernels.dispatch import check_backend, kernels_for
from lpprop.kernels.interface import Graph, Kernels
from lpprop.numerics.graphs import gaussian_stencil
from lpprop.numerics.twins import match_twins

__all__ = ["LocalCRF", "local_crf"]

# Beyond this weight the probabilities have long been 0 and 1.
_LARGEST_WEIGHT = 1e9
# Colours farther apart than any that are joined; their squares stay finite in float32.
_LARGEST_SLOPE = 1e15
# Multiply-adds from which compiling pays off, as in the pixel step.
_WORTH_COMPILING = 1e8
# Size of the classes that are blurred at once: on a CPU they stay in the cache.
_CACHE_BYTES = 2**18
# Images of scores that exist at a time, and those that a gradient keeps for each step, measured.
_VECTORS = 7
_KEPT_VECTORS = 3

_check_weight = partial(check_number, low=0, high=_LARGEST_WEIGHT)
# Sums a kernel times the scores (C, H, W) over the window around each pixel.
_Message = Callable[[Tensor], Tensor]


@full_precision
@checked(
    scale=check_scale,
    iterations=partial(check_integer, low=0),
    w1=_check_weight,
    theta_alpha=check_above_0,
    theta_beta=check_above_0,
    w2=_check_weight,
    theta_gamma=check_above_0,
    r=check_integer,
    backend=check_backend,
)
def local_crf(
    x: Float[Tensor, "B C H W"],
    image: Float[Tensor, "B 3 H W"],
    *,
    scale: float | str | None = "auto",
    iterations: int = 5,
    w1: float = 10.0,
    theta_alpha: float = 80.0,
    theta_beta: float = 13.0,
    w2: float = 3.0,
    theta_gamma: float = 3.0,
    r: int = 11,
    backend: str = "auto",
) -> Float[Tensor, "B C H W"]:
    """Refine scores at pixels by a conditional random field of local neighbours (ConvCRF).

    DenseCRF, with each pixel joined to those of the r x r square around it only. With
    P_i = softmax(scale x_i) and a Potts model, `iterations` steps of mean-field inference:

        k1(i, j) = exp(-|p_i - p_j|^2 / (2 theta_alpha^2) - |I_i - I_j|^2 / (2 theta_beta^2))
        k2(i, j) = exp(-|p_i - p_j|^2 / (2 theta_gamma^2))
        Q_i <- softmax(log P_i + sum_m w_m sum_j k'm(i, j) Q_j),   Q = P at the start

    with j in the square, i itself among them. p is the position in pixels, I the colour from 0 to
    255, and k' = D^-1/2 k D^-1/2 with D the row sums of k over the square. The sums are exact, and
    the options are those of `lpprop.dense_crf`; with a square that covers the image this is the
    model of that function, without its lattice's error. ConvCRF's code also blurs the image by 4,
    and does not normalise unless told to.

    Args:
        x: (B, C, H, W) scores at the image's size.
        image: (B, 3, H, W) RGB in [0, 1].
        scale: factor of the scores before their softmax, > 0, such as the logit scale 100 of CLIP's
            cosines; None if the scores are probabilities already; or "auto", by which the log-odds
            of the two likeliest classes average 12 over an image.
        iterations: mean-field steps, >= 0.
        w1: weight of the appearance kernel, in [0, 1e9].
        theta_alpha: its standard deviation in pixels, > 0.
        theta_beta: its standard deviation in colour, in levels from 0 to 255, > 0.
        w2: weight of the smoothness kernel, in [0, 1e9].
        theta_gamma: its standard deviation in pixels, > 0.
        r: side of the square in pixels; 11 is ConvCRF's, 1 leaves each pixel to itself, and an even
            side acts as the next odd one.
        backend: "torch", "llvm" (compiled code for a CPU), "triton" (a GPU), or "auto", the
            fastest that is installed and pays off; all agree to rounding.

    Returns:
        Probabilities (B, C, H, W) in the dtype of `x`; computed in that dtype, float32 at least.
        Differentiable in `x`; in `image`, once only, with backend "torch", which "auto" then takes.

    Raises:
        InputError: shapes that do not match, values that are not finite, an image outside [0, 1],
            an option out of range, a backend that is not installed or cannot do this, too little
            memory, or, with scale=None, scores that are not probabilities.

    >>> image = torch.zeros(1, 3, 4, 6)
    >>> image[..., 3:] = 1                                  # a black and a white half
    >>> x = torch.zeros(1, 2, 4, 6)
    >>> x[:, 0, :, :2] = 1                                  # class 0 seen in two columns
    >>> x[:, 1, :, 4:] = 1
    >>> local_crf(x, image, w2=0).argmax(1)[0, 0]           # it spreads up to the edge
    tensor([0, 0, 0, 1, 1, 1])
    """
    check_tensors(x=(x, "B C H W"), image=(image, "B 3 H W"))
    if scale is None:
        check_probabilities(x)
    kernels = _choose_kernels(x, image, iterations, r, backend)

    dtype, size = compute_dtype(x), (x.shape[-2], x.shape[-1])
    smooth = w2 > 0 and _smoothness(size, theta_gamma, r, x.new_ones((), dtype=dtype))

    def infer(item: Tensor, guide: Tensor) -> Tensor:
        unary = log_probabilities(item, scale)
        messages: list[tuple[float, _Message]] = [(w2, smooth)] if smooth else []
        if w1 > 0:
            colours = guide * min(255 / theta_beta, _LARGEST_SLOPE)
            graph = gaussian_stencil(colours, theta=theta_alpha, r=r, kernels=kernels)
            messages.append((w1, _appearance(graph, torch.ones_like(unary[:1]))))
        return _mean_field(unary, messages, iterations)

    items = [infer(*pair) for pair in zip(x.to(dtype), image.to(dtype), strict=True)]
    return cast_back(match_twins(torch.stack(items), x), x, "x")


def _mean_field(
    unary: Float[Tensor, "C H W"], messages: Sequence[tuple[float, _Message]], iterations: int
) -> Float[Tensor, "C H W"]:
    """Repeat Q <- softmax(unary + sum of the weighted messages), from Q = softmax(unary)."""
    Q = unary.softmax(0)
    for _ in range(iterations):
        energy = unary
        for weight, message in messages:
            energy = energy.add(message(Q), alpha=weight)
        Q = energy.softmax(0)
    return Q


def _appearance(graph: Graph, ones: Float[Tensor, "1 H W"]) -> _Message:
    """Return Q -> k' Q for a graph that leaves out each pixel itself, whose k is 1."""
    root = (1 + graph.product(ones.flatten(1))).rsqrt().reshape(ones.shape)

    def message(Q: Tensor) -> Tensor:
        scaled = root * Q
        near = graph.product(scaled.flatten(1)).reshape(Q.shape)
        return root * (near + scaled)

    return message


def _smoothness(size: tuple[int, int], theta: float, r: int, like: Tensor) -> _Message:
    """Return Q -> k' Q for the smoothness kernel.

    It is a product of one over rows and one over columns, and so are its row sums.
    """
    reaches = [torch.arange(min(r // 2, side - 1) + 1, dtype=torch.float64) for side in size]
    down, across = (tuple(torch.exp(-(d / theta).square() / 2).tolist()) for d in reaches)
    weights = (down, across)
    root = portable.blur(like.expand(1, *size), weights).rsqrt()

    def message(Q: Tensor) -> Tensor:
        count = max(1, _CACHE_BYTES // Q[0].nbytes) if Q.device.type == "cpu" else len(Q)
        return torch.cat([root * portable.blur(root * part, weights) for part in Q.split(count)])

    return message


def _choose_kernels(
    x: Float[Tensor, "B C *grid"],
    image: Float[Tensor, "B 3 H W"],
    iterations: int,
    r: int,
    backend: str,
    *,
    logged: bool = True,
) -> Kernels:
    """Choose the backend for the image's pixels, and refuse what does not fit into memory."""
    classes, (height, width) = x.shape[1], image.shape[-2:]
    side = [min(r // 2, length - 1) * 2 + 1 for length in (height, width)]
    work = classes * height * width * math.prod(side) * iterations
    guide = ("image", image)
    kernels = kernels_for(backend, x, guide, work, worth=_WORTH_COMPILING, logged=logged)

    size = compute_dtype(x).itemsize
    plane = size * height * width
    counts = classes, (height, width), image.shape[1], math.prod(side) - 1, size
    vectors = _VECTORS
    if torch.is_grad_enabled() and (x.requires_grad or image.requires_grad):
        vectors += _KEPT_VECTORS * iterations
    needed = kernels.forecast_stencil(*counts) + vectors * classes * plane
    if torch.is_grad_enabled() and image.requires_grad:  # of the weights, of two products
        needed += 2 * math.prod(side) // 2 * plane
    check_room(
        "x",
        f"{classes} classes of {height} x {width} pixels, whose random field needs",
        needed,
        x.device,
        "Pass a smaller image, or a smaller r.",
    )
    return kernels


class LocalCRF(Refiner, function=local_crf, needs=("image",)):
    """`local_crf` as a module; it takes that function's options.

    >>> step = LocalCRF(scale=100)
    >>> step(torch.rand(1, 5, 32, 32), image=torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 5, 32, 32])
    """

    scale: float | str | None
    iterations: int
    r: int
    backend: str

    @property
    def reach(self) -> int | None:
        """A neighbour per step, and those of its row sums; None if the image sets the scale."""
        return None if self.scale == "auto" else (self.iterations + 1) * (self.r // 2)

    def check_room(self, logits: Tensor, inputs: Mapping[str, Any]) -> None:
        """Refuse an image whose random field does not fit into memory."""
        image = inputs.get("image")
        if image is not None:
            _choose_kernels(logits, image, self.iterations, self.r, self.backend, logged=False)
