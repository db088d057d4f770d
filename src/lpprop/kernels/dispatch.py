"""Which code runs the hot loops over pixels: PyTorch, compiled vector code, or Triton.

| backend | runs on | needs | differentiates in |
|---|---|---|---|
| "torch" | every device | nothing | everything |
| "llvm" | a CPU | llvmlite | the scores |
| "triton" | an NVIDIA GPU | triton | the scores |

All give the same answer to rounding; "torch" is the reference for the others. Where all weights of
a pixel are too small for float32, "llvm" still has them and the others do not.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from types import ModuleType

import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import (
    check_choice,
)

__all__ = ["BACKENDS", "check_backend", "kernels_for"]

BACKENDS = ("auto", "torch", "llvm", "triton")

# Compiling takes about as long as PyTorch needs for so many multiply-adds; an image with fewer
# would wait longer for compiled code, the first time, than for PyTorch.
_WORTH_COMPILING = 1.5e9

_log = logging.getLogger("lpprop")


def check_backend(name: str, backend: object) -> None:
    """Refuse a backend that is unknown or not installed."""
    check_choice(name, backend, BACKENDS)
    package = {"llvm": "llvmlite", "triton": "triton"}.get(str(backend))
    if package and not _installed(package):
        raise InputError.of(
            name,
            got=f"{backend!r}, whose package {package} is not installed",
            expected="an installed one",
            fix=f"Run pip install {package}, or pass 'auto'.",
        )


def kernels_for(backend: str, scores: Tensor, guide: tuple[str, Tensor], work: float) -> ModuleType:
    """Return the module of kernels that a call should use.

    Args:
        backend: one of `BACKENDS`, checked.
        scores: what is refined.
        guide: name and tensor of what it is refined by.
        work: multiply-adds of the call, of one item of the batch.

    Raises:
        InputError: a backend that does not run on the scores' device, or not with gradients in the
            guide.
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
        _log.info("backend %s on %s for %.1e multiply-adds an item", backend, device, work)
    _check_use(backend, device, name, fixed)
    return importlib.import_module(f"lpprop.kernels.{_MODULES[backend]}")


_MODULES = {"torch": "portable", "llvm": "llvm", "triton": "triton"}


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
    """Whether the GPU is one of NVIDIA's that Triton compiles for."""
    return torch.version.hip is None and torch.cuda.get_device_capability(scores.device) >= (7, 0)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
