"""Compile kernels by LLVM, at first use, for the processor at hand.

A kernel compiles in 10 to 190 ms; its machine code is kept on disk, and read in 1 ms by the next
process. A process keeps the kernels that it used last; the machine code of others is freed once no
call uses it.
"""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import os
import threading
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np
import torch
from llvmlite import ir
from numpy.typing import NDArray

from lpprop._core.memory import available_bytes
from lpprop.kernels.llvm.builder import KINDS, LANES, Code, Index, Scalar
from lpprop.kernels.llvm.object_cache import read_object, write_object

__all__ = ["Kernel", "compile_kernel", "has_long_registers", "specialise"]

Kernel = Callable[..., None]

# What compiling a kernel takes at most. LLVM ends the process where it gets no memory.
_COMPILING_BYTES = 64 * 2**20
# How much LLVM optimises: in making machine code, and in the passes before. The kernels lay out
# their loops by hand: unrolled further, they would run out of registers.
_LEVEL, _SPEED = 3, 2
_SWITCHED_OFF = ("loop_unrolling", "loop_vectorization", "slp_vectorization")
# More than both dtypes, three group sizes and three features need.
_KEPT = 64

_lock = threading.RLock()
# A fork waits until no thread is within LLVM: the child would have the locks of this module and of
# llvmlite as they stand, held by threads that it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


class _MachineCode:
    """The owner of a kernel's machine code, which goes with it."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def __del__(self) -> None:
        if _lock is None:  # the interpreter is ending
            return
        with _lock:
            self.engine.close()


@lru_cache(maxsize=_KEPT)
def specialise(
    make: Callable[..., Kernel], dtype: np.dtype[Any], *numbers: int, lanes: int = LANES
) -> Kernel:
    """Compile the kernel that `make` makes for these numbers, unless it is kept already."""
    return compile_kernel(make(*numbers), dtype, lanes)


@cache
def has_long_registers() -> bool:
    """Tell whether there are 32 registers of 64 bytes, those of AVX-512, and not just 16 of 32."""
    return "+avx512f" in llvm.get_host_cpu_features().flatten().split(",")


def compile_kernel(kernel: Kernel, dtype: np.dtype[Any], lanes: int = LANES) -> Kernel:
    """Compile a kernel for arrays of float32 or float64.

    Args:
        kernel: a function of a `Code` and of arguments that their annotations declare.
        dtype: of the elements of every `Array`, and of every `Scalar`.
        lanes: elements per vector.

    Returns:
        A callable that releases the interpreter's lock. It takes C-contiguous NumPy arrays of the
        declared types for addresses, and numbers for the rest. It checks no types and no sizes.

    Raises:
        MemoryError: too little memory to compile.
    """
    annotations = inspect.get_annotations(kernel, eval_str=True)
    kinds = [kind for kind in annotations.values() if kind in KINDS]
    module = ir.Module()
    code = Code(module, "kernel", dtype, kinds, lanes)
    kernel(code, *code.arguments)
    code.builder.ret_void()
    free = available_bytes(torch.device("cpu"))
    if free is not None and free < _COMPILING_BYTES:
        raise MemoryError(f"{free >> 20} MiB are free, too few to compile a kernel")
    with _lock:
        engine = _compile(module)
        address = engine.get_function_address("kernel")
    scalar = ctypes.c_double if dtype == np.float64 else ctypes.c_float
    types = {Index: ctypes.c_int64, Scalar: scalar}
    prototype = ctypes.CFUNCTYPE(None, *[types.get(kind, ctypes.c_void_p) for kind in kinds])
    function = prototype(address)

    def call(*arguments: Any) -> None:
        function(*[_address(x) if isinstance(x, np.ndarray) else x for x in arguments])

    call.code = _MachineCode(engine)  # type: ignore[attr-defined]
    return call


def _compile(module: ir.Module) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=_LEVEL
    )
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    text = str(module)
    settings = (cpu, features, _LEVEL, _SPEED, _SWITCHED_OFF)
    versions = (llvmlite.__version__, llvm.llvm_version_info)
    # All that determines the machine code.
    key = hashlib.sha256(repr((text, settings, versions)).encode()).hexdigest()
    code = read_object(key)
    if code is None:
        code = _emit(text, machine)
        write_object(key, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def _emit(text: str, machine: Any) -> bytes:
    parsed = llvm.parse_assembly(text)
    options = llvm.create_pipeline_tuning_options(_SPEED)
    for name in _SWITCHED_OFF:
        setattr(options, name, False)
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    code: bytes = machine.emit_object(parsed)
    return code


def _address(array: NDArray[Any]) -> int:
    if not array.flags.c_contiguous:
        raise ValueError("compiled code reads arrays in C order")
    return array.ctypes.data
