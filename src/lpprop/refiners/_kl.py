"""The pointwise divergence of class distributions from the uniform one (DSLO)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.precision import cast_back, full_precision
from lpprop._core.refiner import Refiner
from lpprop.inputs.distribution import as_distribution

__all__ = ["KLDiscrepancy", "kl_discrepancy"]


@full_precision
def kl_discrepancy(distribution: Float[Tensor, "B C N"]) -> Float[Tensor, "B C N"]:
    """Compute the pointwise Kullback-Leibler divergence of distributions from the uniform u = 1/N.

        map_j = f_j log(f_j / u),   0 where f_j = 0

    Args:
        distribution: (B, C, N), each row a distribution over the patches, or zeros.

    Returns:
        Maps (B, C, N) in the dtype of `distribution`, differentiable where f_j > 0. They are
        negative where 0 < f_j < u, and the 0 of a rejected class is larger there.

    Raises:
        InputError: not three axes, or rows that are not distributions.

    >>> kl_discrepancy(torch.tensor([[[0.5, 0.5, 0.0, 0.0]]]))
    tensor([[[0.3466, 0.3466, 0.0000, 0.0000]]])
    """
    check_tensors(distribution=(distribution, "B C N"))
    f = as_distribution(distribution)
    ratio = torch.where(f > 0, f * f.shape[-1], 1.0)  # 0 log 0 = 0, with a finite gradient
    return cast_back(f * ratio.log(), distribution, "distribution")


class KLDiscrepancy(Refiner, function=kl_discrepancy, on_patches=True):
    """`kl_discrepancy` as a module.

    >>> KLDiscrepancy()(torch.full((1, 5, 16), 1 / 16)).abs().max() < 1e-6
    tensor(True)
    """
