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

import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.memory import available_bytes
from lpprop._core.options import check_choice
from lpprop.kernels import portable
from lpprop.kernels.interface import Kernels

__all__ = ["BACKENDS", "check_backend", "choose_by_work", "kernels_for"]

BACKENDS = ("auto", "torch", "llvm", "triton")

# The first release of llvmlite whose LLVM reads pointers without a type.
_LLVMLITE = (0, 45)
# What importing llvmlite and compiling take, measured as 171 MiB of addresses, with some to spare:
# LLVM ends the process where it gets no memory.
_COMPILER_BYTES = 256 * 2**20

_log = logging.getLogger("lpprop")

_by_work: ContextVar[bool] = ContextVar("lpprop_choose_by_work", default=False)


@contextmanager
def choose_by_work() -> Iterator[None]:
    """Within a block, let "auto" choose by the work of a call alone, as in a new process.

    Backends round differently. So the bits of a call then depend neither on what this process has
    done before, nor on which of many processes makes it.
    """
    token = _by_work.set(True)
    try:
        yield
    finally:
        _by_work.reset(token)


def check_backend(name: str, backend: object) -> str:
    """Return a backend; refuse one that is unknown or not installed."""
    backend = check_choice(name, backend, BACKENDS)
    package = {"llvm": "llvmlite", "triton": "triton"}.get(backend)
    if package and not _installed(package):
        gpu = package != "triton" or torch.cuda.is_available()
        raise InputError.of(
            name,
            got=f"{backend!r}, whose package {package} is not installed",
            expected="an installed one",
            fix=f"Run pip install {package}, or pass 'auto'."
            if gpu
            else "Pass 'auto': triton runs on an NVIDIA GPU, and PyTorch sees none here.",
        )
    if backend == "llvm" and (trouble := _find_llvm_trouble()):
        raise InputError.of(
            name,
            got=f"'llvm', but {trouble}",
            expected="what compiled code needs",
            fix="Provide it, or pass 'auto' or 'torch'.",
        )
    return backend


def kernels_for(
    backend: str,
    scores: Tensor,
    guide: tuple[str, Tensor],
    work: float,
    *,
    worth: float,
    logged: bool = True,
) -> Kernels:
    """Return the kernels that a call should use.

    Once anything is compiled in this process, "auto" takes compiled code for calls of any size,
    but within `choose_by_work`.

    Args:
        backend: one of `BACKENDS`, checked.
        scores: the tensor to refine.
        guide: name and tensor of the input that guides the refinement.
        work: multiply-adds per item of the batch.
        logged: whether the log says what "auto" took.
        worth: from how many on compiling pays off in a process that has compiled nothing yet.

    Raises:
        InputError: a backend that does not run on the scores' device, or has no gradient in the
            guide where one is wanted.
    """
    name, tensor = guide
    device = scores.device.type
    fixed = not (tensor.requires_grad and torch.is_grad_enabled())
    if backend == "auto":
        backend = "torch"
        pays = work >= worth or (_has_compiled() and not _by_work.get())
        if fixed and device == "cpu" and pays and _runs_llvm():
            backend = "llvm"
        elif fixed and device == "cuda" and _installed("triton") and _runs_triton(scores):
            backend = "triton"
        if logged:
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


def _has_compiled() -> bool:
    """Tell whether compiled code is there already."""
    jit = sys.modules.get("lpprop.kernels.llvm.jit")
    return jit is not None and jit.specialise.cache_info().currsize > 0


def _runs_llvm() -> bool:
    """Tell whether compiled code can be made; the log says once what keeps it from that."""
    if not _installed("llvmlite"):
        return False
    trouble = _find_llvm_trouble()
    if trouble:
        _warn_once(trouble)
    return trouble is None


def _find_llvm_trouble() -> str | None:
    """Say what keeps an installed llvmlite from compiling, if anything does."""
    version = importlib.metadata.version("llvmlite")
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < _LLVMLITE:
        return f"llvmlite is {version}, and compiled code needs {_LLVMLITE[0]}.{_LLVMLITE[1]}"
    free = available_bytes(torch.device("cpu"))
    if free is not None and free < _COMPILER_BYTES and not _has_compiled():
        return f"{free >> 20} MiB are free, and compiling takes up to {_COMPILER_BYTES >> 20}"
    return None


@cache
def _warn_once(trouble: str) -> None:
    _log.warning("%s: the slower backend 'torch' runs instead", trouble)


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
