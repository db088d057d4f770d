"""Distributions over patches, as the maps of DSLO take them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_distribution
from lpprop._core.precision import compute_dtype

__all__ = ["as_distribution"]


def as_distribution(distribution: Float[Tensor, "B C N"]) -> Float[Tensor, "B C N"]:
    """Refuse rows that are not distributions, and divide the others by their sums.

    The sums differ from 1 by rounding. Rows of zeros stand for rejected classes and stay zeros.
    """
    check_distribution(
        "distribution", distribution, "Make it with lpprop.class_distribution(logits)."
    )
    f = distribution.to(compute_dtype(distribution))
    total = f.sum(-1, keepdim=True)
    return f / torch.where(total > 0, total, 1.0)
