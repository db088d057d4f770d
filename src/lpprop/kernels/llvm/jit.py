"""Compile kernels by LLVM, at first use, for the processor at hand.

A kernel compiles in 10 to 80 ms, so nothing is kept on disk.
"""

from __future__ import annotations

import ctypes
import inspect
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lpprop.kernels.llvm.builder import KINDS, Code, Index, Scalar

__all__ = ["Kernel", "compile_kernel", "specialise"]

Kernel = Callable[..., None]

_lock = threading.Lock()


@cache
def specialise(make: Callable[..., Kernel], dtype: np.dtype[Any], *numbers: int) -> Kernel:
    """Compile the kernel that `make` makes for these numbers, once per process."""
    return compile_kernel(make(*numbers), dtype)


def compile_kernel(kernel: Kernel, dtype: np.dtype[Any]) -> Kernel:
    """Compile a kernel for arrays of float32 or float64.

    Args:
        kernel: a function of a `Code` and of arguments that their annotations declare.
        dtype: of the elements of every `Array`, and of every `Scalar`.

    Returns:
        A callable that releases the interpreter's lock. It takes C-contiguous NumPy arrays of the
        declared types for addresses, and numbers for the rest. It checks no types and no sizes.
    """
    annotations = inspect.get_annotations(kernel, eval_str=True)
    kinds = [kind for kind in annotations.values() if kind in KINDS]
    module = ir.Module()
    code = Code(module, "kernel", dtype, kinds)
    kernel(code, *code.arguments)
    code.builder.ret_void()
    with _lock:
        engine = _compile(module)
    scalar = ctypes.c_double if dtype == np.float64 else ctypes.c_float
    types = {Index: ctypes.c_int64, Scalar: scalar}
    prototype = ctypes.CFUNCTYPE(None, *[types.get(kind, ctypes.c_void_p) for kind in kinds])
    function = prototype(engine.get_function_address("kernel"))

    def call(*arguments: Any) -> None:
        function(*[_address(x) if isinstance(x, np.ndarray) else x for x in arguments])

    call.engine = engine  # type: ignore[attr-defined]  # the engine owns the machine code
    return call


def _compile(module: ir.Module) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    parsed = llvm.parse_assembly(str(module))
    # The kernels lay out their loops by hand: unrolled further, they would run out of registers.
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


def _address(array: NDArray[Any]) -> int:
    if not array.flags.c_contiguous:
        raise ValueError("compiled code reads arrays in C order")
    return array.ctypes.data
