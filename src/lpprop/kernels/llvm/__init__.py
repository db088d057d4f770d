"""Compiled vector code for the CPU, made by LLVM at first use (llvmlite)."""

from lpprop.kernels.llvm.gibbs import gibbs
from lpprop.kernels.llvm.stencil import Stencil, stencil
from lpprop.kernels.llvm.upsampling import upsample

__all__ = ["Stencil", "gibbs", "stencil", "upsample"]
