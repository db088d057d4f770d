"""The Gibbs kernel of entropic transport, in plain PyTorch."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["build_gibbs_kernel"]


def build_gibbs_kernel(
    cost: Float[Tensor, "N N"], scale: float, shift: float
) -> Float[Tensor, "N N"]:
    """Compute exp(shift - scale cost)."""
    return torch.add(cost.new_tensor(shift), cost, alpha=-scale).exp_()
