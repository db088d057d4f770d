"""Vector code for the CPU, compiled by LLVM at first use (llvmlite)."""

from lpprop.kernels.llvm.gibbs import build_gibbs_kernel
from lpprop.kernels.llvm.stencil import Stencil, build_stencil, forecast_stencil
from lpprop.kernels.llvm.upsampling import upsample

__all__ = ["Stencil", "build_gibbs_kernel", "build_stencil", "forecast_stencil", "upsample"]
