"""Choose the code that runs the hot loops: PyTorch, compiled vector code, or Triton.

| backend | runs on | needs | differentiates in |
|---|---|---|---|
| "torch" | every device | nothing | everything |
| "llvm" | a CPU | llvmlite | the scores |
| "triton" | an NVIDIA GPU | triton, a C compiler | the scores |

All give the same answer to rounding, and "torch" is the reference. Where all weights of a pixel are
too small for float32, "llvm" still has them and the others do not.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sysconfig
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import check_choice
from lpprop.kernels import portable
from lpprop.kernels.interface import Kernels

__all__ = ["BACKENDS", "check_backend", "kernels_for"]

BACKENDS = ("auto", "torch", "llvm", "triton")

# PyTorch takes about as long for so many multiply-adds as compiling does: below, a first call is
# quicker by PyTorch.
_WORTH_COMPILING = 1.5e9

_log = logging.getLogger("lpprop")


def check_backend(name: str, backend: object) -> str:
    """Return a backend; refuse one that is unknown or not installed."""
    backend = check_choice(name, backend, BACKENDS)
    package = {"llvm": "llvmlite", "triton": "triton"}.get(backend)
    if package and not _installed(package):
        raise InputError.of(
            name,
            got=f"{backend!r}, whose package {package} is not installed",
            expected="an installed one",
            fix=f"Run pip install {package}, or pass 'auto'.",
        )
    return backend


def kernels_for(backend: str, scores: Tensor, guide: tuple[str, Tensor], work: float) -> Kernels:
    """Return the kernels that a call should use.

    Args:
        backend: one of `BACKENDS`, checked.
        scores: the tensor to refine.
        guide: name and tensor of the input that guides the refinement.
        work: multiply-adds per item of the batch.

    Raises:
        InputError: a backend that does not run on the scores' device, or has no gradient in the
            guide where one is wanted.
    """
    name, tensor = guide
    device = scores.device.type
    fixed = not (tensor.requires_grad and torch.is_grad_enabled())
    if backend == "auto":
        backend = "torch"
        if fixed and device == "cpu" and work >= _WORTH_COMPILING and _installed("llvmlite"):
            backend = "llvm"
        elif fixed and device == "cuda" and _installed("triton") and _runs_triton(scores):
            backend = "triton"
        _log.info("backend %s on %s for %.1e multiply-adds per item", backend, device, work)
    _check_use(backend, device, name, fixed)
    return _load(backend)


def _load(backend: str) -> Kernels:
    """Import a backend where it is used: compilers take long to import."""
    if backend == "llvm":
        from lpprop.kernels import llvm

        return llvm
    if backend == "triton":
        from lpprop.kernels import triton

        return triton
    return portable


def _check_use(backend: str, device: str, guide: str, fixed: bool) -> None:
    interpreted = backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    where = {"llvm": "cpu", "triton": "cuda"}.get(backend, device)
    if device != where and not interpreted:
        raise InputError.of(
            "backend",
            got=f"{backend!r} for tensors on {device}",
            expected=f"tensors on {where}",
            fix="Move the tensors, or pass backend='auto'.",
        )
    if backend != "torch" and not fixed:
        raise InputError.of(
            guide,
            got=f"a tensor that requires a gradient, with backend={backend!r}",
            expected="one that does not: that backend differentiates in the scores only",
            fix=f"Pass backend='torch', or {guide}.detach().",
        )


def _runs_triton(scores: Tensor) -> bool:
    """Tell whether the GPU is one of NVIDIA's that Triton compiles for, and Triton can build."""
    nvidia = torch.version.hip is None
    return nvidia and torch.cuda.get_device_capability(scores.device) >= (7, 0) and _can_build()


@cache
def _can_build() -> bool:
    """Look, once, for what Triton builds its launcher with: a C compiler and Python's headers."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    if not (compiler and headers):
        missing = "Python's headers" if compiler else "a C compiler"
        _log.warning("Triton needs %s: the slower backend 'torch' runs instead", missing)
    return bool(compiler) and headers


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
