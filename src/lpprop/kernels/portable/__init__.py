"""The hot loops in plain PyTorch: every device, every dtype, the reference for the rest."""

from lpprop.kernels.portable.blurring import blur
from lpprop.kernels.portable.gibbs import build_gibbs_kernel
from lpprop.kernels.portable.patches import csr_product, gram_matrix, symmetric_csr
from lpprop.kernels.portable.products import multiply, multiply_rows
from lpprop.kernels.portable.selection import largest_of_rows
from lpprop.kernels.portable.stencil import (
    Stencil,
    build_stencil,
    forecast_stencil,
    half_offsets,
    stencil_weights,
)
from lpprop.kernels.portable.upsampling import upsample

__all__ = [
    "Stencil",
    "blur",
    "build_gibbs_kernel",
    "build_stencil",
    "csr_product",
    "forecast_stencil",
    "gram_matrix",
    "half_offsets",
    "largest_of_rows",
    "multiply",
    "multiply_rows",
    "stencil_weights",
    "symmetric_csr",
    "upsample",
]
