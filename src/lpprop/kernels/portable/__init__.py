"""The hot loops in plain PyTorch: every device, every dtype, the reference for the rest."""

from lpprop.kernels.portable.gibbs import gibbs
from lpprop.kernels.portable.patches import csr_product, gram_matrix, symmetric_csr
from lpprop.kernels.portable.stencil import (
    Stencil,
    half_offsets,
    stencil,
    stencil_weights,
)
from lpprop.kernels.portable.upsampling import upsample

__all__ = [
    "Stencil",
    "csr_product",
    "gibbs",
    "gram_matrix",
    "half_offsets",
    "stencil",
    "stencil_weights",
    "symmetric_csr",
    "upsample",
]
