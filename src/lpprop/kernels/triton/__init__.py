"""Triton kernels for an NVIDIA GPU; importing them needs Triton.

Nothing is summed atomically, so they give the same bits every time.
"""

# The kernel of the optimal path is two passes over memory: nothing to gain.
from lpprop.kernels.portable import build_gibbs_kernel, forecast_stencil
from lpprop.kernels.triton.stencil import Stencil, build_stencil
from lpprop.kernels.triton.upsampling import upsample

__all__ = ["Stencil", "build_gibbs_kernel", "build_stencil", "forecast_stencil", "upsample"]
