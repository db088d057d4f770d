"""A separable sum over the square around each pixel, as a Gaussian blur takes it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Weights", "blur"]

#: The weights at distances 0, 1, 2, ... along the columns, and along the rows.
Weights = tuple[tuple[float, ...], tuple[float, ...]]


def blur(x: Float[Tensor, "C H W"], weights: Weights) -> Float[Tensor, "C H W"]:
    """Sum each pixel and its neighbours along the columns, and then along the rows.

    A distance beyond the image's side is not allowed; outside the image everything is 0.
    """
    blurred: Tensor = _Blur.apply(x, weights)
    return blurred


class _Blur(torch.autograd.Function):
    """Add one neighbour after the other in place, where autograd would keep each step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Weights) -> Tensor:
        ctx.weights = weights
        for dim, (own, *others) in zip((-2, -1), weights, strict=True):
            total, side = own * x, x.shape[dim]
            for distance, weight in enumerate(others, start=1):
                length = side - distance
                for here, there in ((distance, 0), (0, distance)):
                    near = x.narrow(dim, there, length)
                    total.narrow(dim, here, length).add_(near, alpha=weight)
            x = total
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return blur(grad, ctx.weights), None  # it is symmetric
