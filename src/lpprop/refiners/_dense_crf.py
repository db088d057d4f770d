"""DenseCRF: mean-field inference in a fully connected conditional random field.

Krähenbühl, Koltun: Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials,
NeurIPS 2011. The authors' C++ in the package pydensecrf2 does the work.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.options import check_above_0, check_integer, check_number, checked
from lpprop._core.precision import cast_back, full_precision
from lpprop._core.refiner import Refiner
from lpprop.inputs.probabilities import check_probabilities, check_scale, log_probabilities

__all__ = ["DenseCRF", "dense_crf"]

# The package computes in float32. Beyond these bounds its sums would overflow, while probabilities
# have long been 0 and 1.
_LARGEST_WEIGHT = 1e9

_check_weight = partial(check_number, low=0, high=_LARGEST_WEIGHT)


@full_precision
@checked(
    scale=check_scale,
    iterations=partial(check_integer, low=0),
    w1=_check_weight,
    theta_alpha=check_above_0,
    theta_beta=check_above_0,
    w2=_check_weight,
    theta_gamma=check_above_0,
)
def dense_crf(
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
) -> Float[Tensor, "B C H W"]:
    """Refine scores at pixels by a fully connected conditional random field (DenseCRF).

    With P_i = softmax(scale x_i) and a Potts model, `iterations` steps of mean-field inference:

        k1(i, j) = exp(-|p_i - p_j|^2 / (2 theta_alpha^2) - |I_i - I_j|^2 / (2 theta_beta^2))
        k2(i, j) = exp(-|p_i - p_j|^2 / (2 theta_gamma^2))
        Q_i <- softmax(log P_i + sum_m w_m sum_j k'm(i, j) Q_j),   Q = P at the start

    p is the position in pixels, I the colour from 0 to 255, and k' = D^-1/2 k D^-1/2 with D the row
    sums of k. A permutohedral lattice computes the sums over all pixels, fast but approximately:
    after five steps 93 to 99.8 % of the labels of a small drawn scene agreed with exact sums, and
    noisy colours may lower that.

    The model weighs probabilities against `w1` and `w2`, so their confidence matters. "auto" gives
    scores of any range the same confidence: it scales the scores of an image until the log-odds of
    the two likeliest classes average 12 over its pixels.

    Args:
        x: (B, C, H, W) scores at the image's size.
        image: (B, 3, H, W) RGB in [0, 1].
        scale: factor of the scores before their softmax, > 0, such as the logit scale 100 of CLIP's
            cosines; "auto"; or None if the scores are probabilities already.
        iterations: mean-field steps, >= 0.
        w1: weight of the appearance kernel, in [0, 1e9].
        theta_alpha: its standard deviation in pixels, > 0.
        theta_beta: its standard deviation in colour, in levels from 0 to 255, > 0.
        w2: weight of the smoothness kernel, in [0, 1e9].
        theta_gamma: its standard deviation in pixels, > 0.

    Returns:
        Probabilities (B, C, H, W) in the dtype of `x`. They are computed in float32 on one CPU
        core, whatever the device of `x`, and are not differentiable.

    Raises:
        InputError: shapes that do not match, values that are not finite, an image outside [0, 1],
            an option out of range, inputs that require a gradient, or, with scale=None, scores
            that are not probabilities.
        ImportError: the extra `crf` is not installed.

    >>> image = torch.zeros(1, 3, 4, 6)
    >>> image[..., 3:] = 1                                  # a black and a white half
    >>> x = torch.zeros(1, 2, 4, 6)
    >>> x[:, 0, :, :2] = 1                                  # class 0 seen in two columns
    >>> x[:, 1, :, 4:] = 1
    >>> dense_crf(x, image, w2=0).argmax(1)[0, 0]           # it spreads up to the edge
    tensor([0, 0, 0, 1, 1, 1])
    """
    check_tensors(x=(x, "B C H W"), image=(image, "B 3 H W"))
    for name, tensor in (("x", x), ("image", image)):
        _check_no_gradient(name, tensor)
    if scale is None:
        check_probabilities(x)
    height, width = x.shape[-2:]
    reaches = {"theta_alpha": theta_alpha, "theta_beta": theta_beta, "theta_gamma": theta_gamma}
    _check_reach((height, width), reaches)
    package = _import_package()
    kernels = [(w1, theta_alpha, theta_beta), (w2, theta_gamma, math.inf)]

    scores = torch.empty_like(x, memory_format=torch.contiguous_format)
    for item, guide, out in zip(x, image, scores, strict=True):
        unary = -log_probabilities(item.detach().cpu().double(), scale).float()
        model = package.DenseCRF(height * width, len(item))
        model.setUnaryEnergy(unary.flatten(1).contiguous().numpy())
        colours = 255 * guide.detach().cpu().float().numpy()
        for weight, place, colour in kernels:
            if weight > 0:
                model.addPairwiseEnergy(_make_features(colours, place, colour), compat=weight)
        inferred = np.array(model.inference(iterations)).reshape(item.shape)
        out.copy_(torch.from_numpy(inferred))
    return cast_back(scores, x, "x")


def _make_features(
    colours: Float[np.ndarray[Any, Any], "3 H W"], place: float, colour: float
) -> Float[np.ndarray[Any, Any], "F N"]:
    """Make the features whose unit Gaussian is the kernel; without colours if `colour` is inf."""
    _, height, width = colours.shape
    rows, columns = np.mgrid[:height, :width]
    planes = [columns / place, rows / place]
    if math.isfinite(colour):
        planes += list(colours / colour)
    return np.ascontiguousarray(np.stack(planes).reshape(len(planes), -1), np.float32)


def _check_no_gradient(name: str, tensor: Tensor) -> None:
    if tensor.requires_grad and torch.is_grad_enabled():
        raise InputError.of(
            name,
            got="a tensor that requires a gradient",
            expected="one that does not: DenseCRF has none",
            fix=f"Pass {name}.detach(), or call it under torch.no_grad().",
        )


def _check_reach(size: tuple[int, int], reaches: dict[str, float]) -> None:
    """Refuse kernels so narrow that the lattice's coordinates overflow their 16 bits."""
    # A coordinate is at most sqrt(2/3) (d + 1) times the sum of the d features.
    gaussian, bilateral = (math.sqrt(2 / 3) * (d + 1) for d in (2, 5))
    steps = {
        "theta_gamma": gaussian * sum(size) / reaches["theta_gamma"],
        "theta_alpha": bilateral * sum(size) / reaches["theta_alpha"],
        "theta_beta": bilateral * 3 * 255 / reaches["theta_beta"],
    }
    for name, count in steps.items():
        if count > 2**14:
            raise InputError.of(
                name,
                got=f"{reaches[name]:g} for an image of {size[0]} x {size[1]} pixels",
                expected=f"at least {1.1 * reaches[name] * count / 2**14:.2g}",
                fix=f"Raise {name}, or make the image smaller.",
            )


def _import_package() -> Any:
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise ImportError(
            "DenseCRF needs an extra: pip install 'lpprop[crf]' (from Python 3.13 on, first "
            "pip install cython setuptools, and add --no-build-isolation)"
        ) from error
    return densecrf


class DenseCRF(Refiner, function=dense_crf, needs=("image",)):
    """`dense_crf` as a module; it takes that function's options.

    Raises:
        ImportError: the extra `crf` is not installed.

    >>> step = DenseCRF(scale=100)
    >>> step(torch.rand(1, 5, 32, 32), image=torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 5, 32, 32])
    """

    def __init__(self, **config: Any) -> None:
        """Import the package now, so that a missing one is known before any work."""
        super().__init__(**config)
        _import_package()
