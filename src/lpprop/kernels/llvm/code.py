"""Loops over arrays in vector instructions, written in Python and compiled by LLVM at first use.

A kernel is a function that takes a `Code` and then its arguments, and emits instructions through
them; their annotations are its signature. `compiled` turns kernels into callables that release the
interpreter's lock. That is quick enough for nothing to be kept on disk.

    def scaled(code: Code, x: Array, factor: Scalar, count: Index) -> None:
        with code.loop(0, count, LANES) as i:
            x.store(i, code.spread(factor) * x.load(i))
"""

from __future__ import annotations

import ctypes
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "GROUP",
    "LANES",
    "Array",
    "Code",
    "Doubles",
    "Index",
    "Indices",
    "Kernel",
    "Scalar",
    "Value",
    "Variable",
    "compiled",
    "variant",
]

#: Elements of a vector; wider than some machines have, which then take two or more instructions.
LANES = 8
#: Pixels that are summed at a time, so that no sum waits for itself.
BLOCK = 4
#: Classes that are summed at a time: BLOCK times three vectors of sums fill the registers.
GROUP = 3 * LANES

Kernel = Callable[..., None]

_INT = ir.IntType(64)
_ELEMENTS = {np.dtype(np.float32): ir.FloatType(), np.dtype(np.float64): ir.DoubleType()}
_SUFFIXES = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}
_lock = threading.Lock()


class Value:
    """What an instruction computes: an index, a scalar, or a vector of either."""

    def __init__(self, code: Code, raw: Any) -> None:
        self.code, self.raw = code, raw

    def __add__(self, other: Value | float) -> Value:
        return self._combined("add", self, other)

    def __sub__(self, other: Value | float) -> Value:
        return self._combined("sub", self, other)

    def __mul__(self, other: Value | float) -> Value:
        return self._combined("mul", self, other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._combined("div", self, other)

    def _combined(self, name: str, left: Value, right: Value | float) -> Value:
        element = getattr(left.raw.type, "element", left.raw.type)
        prefix = "" if isinstance(element, ir.IntType) else "f"
        emit = getattr(self.code.builder, prefix + name)
        return Value(self.code, emit(left.raw, self.code.constant(right, left.raw.type).raw))


class Index(Value):
    """A 64-bit integer argument."""


class Scalar(Value):
    """A floating-point argument."""


class Array:
    """An argument that is the address of floating-point elements."""

    def __init__(self, code: Code, raw: Any) -> None:
        self.code, self.raw = code, raw

    def load(self, place: Value, lanes: int = LANES) -> Value:
        """Read a vector of elements, or one scalar if lanes is 1, from a place on."""
        element = self.raw.type.pointee
        kind = element if lanes == 1 else ir.VectorType(element, lanes)
        value = self.code.builder.load(self._address(place, kind))
        value.align = _bytes(element)
        return Value(self.code, value)

    def store(self, place: Value, value: Value) -> None:
        """Write a scalar, or a vector of elements, from a place on."""
        address = self._address(place, value.raw.type)
        self.code.builder.store(value.raw, address, align=_bytes(self.raw.type.pointee))

    def spread(self, place: Value) -> Value:
        """Read one element into every lane."""
        return self.code.spread(self.load(place, 1))

    def _address(self, place: Value, kind: Any) -> Any:
        address = self.code.builder.gep(self.raw, [place.raw])
        return self.code.builder.bitcast(address, kind.as_pointer())


class Indices(Array):
    """An argument that is the address of 64-bit integers."""

    def unpack(self, count: int) -> list[Value]:
        """Read the first integers."""
        return [self.load(self.code.index(i), 1) for i in range(count)]


class Doubles(Array):
    """An argument that is the address of elements of double precision, whatever the others are."""

    def add(self, place: Value, value: Value) -> None:
        """Add a vector to the elements from a place on."""
        lanes = value.raw.type.count
        double = ir.VectorType(ir.DoubleType(), lanes)
        if value.raw.type != double:
            value = Value(self.code, self.code.builder.fpext(value.raw, double))
        self.store(place, self.load(place, lanes) + value)


class Variable:
    """A value that changes from one round of a loop to the next; it lives in a register."""

    def __init__(self, code: Code, value: Value) -> None:
        self.code = code
        with code.builder.goto_entry_block():
            self._slot = code.builder.alloca(value.raw.type)
        self.set(value)

    def get(self) -> Value:
        """Return the present value."""
        return Value(self.code, self.code.builder.load(self._slot))

    def set(self, value: Value) -> None:
        """Replace the value."""
        self.code.builder.store(value.raw, self._slot)


class Code:
    """The function that is being written."""

    def __init__(self, module: ir.Module, name: str, element: Any, kinds: Sequence[Any]) -> None:
        types = {
            Array: element.as_pointer(),
            Doubles: ir.DoubleType().as_pointer(),
            Indices: _INT.as_pointer(),
            Index: _INT,
            Scalar: element,
        }
        signature = ir.FunctionType(ir.VoidType(), [types[kind] for kind in kinds])
        function = ir.Function(module, signature, name)
        self.element = element
        self.builder = ir.IRBuilder(function.append_basic_block())
        self.arguments = [kind(self, raw) for kind, raw in zip(kinds, function.args, strict=True)]

    def constant(self, x: Value | float, kind: Any) -> Value:
        """Return a number as a value of a type, in every lane of a vector."""
        if isinstance(x, Value):
            return x
        if isinstance(kind, ir.VectorType):
            return Value(self, ir.Constant(kind, [ir.Constant(kind.element, x)] * kind.count))
        return Value(self, ir.Constant(kind, x))

    def index(self, x: int) -> Value:
        """Return a number as an index."""
        return self.constant(x, _INT)

    def vector(self, x: float) -> Value:
        """Return a number in every lane."""
        return self.constant(x, ir.VectorType(self.element, LANES))

    def spread(self, scalar: Value) -> Value:
        """Copy a scalar into every lane."""
        kind = ir.VectorType(scalar.raw.type, LANES)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar.raw, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return Value(self, self.builder.shuffle_vector(first, undefined, mask))

    def part(self, vector: Value, start: int, count: int) -> Value:
        """Take some lanes of a vector, as a shorter one."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(start, start + count)))
        undefined = ir.Constant(vector.raw.type, ir.Undefined)
        return Value(self, self.builder.shuffle_vector(vector.raw, undefined, mask))

    def variable(self, value: Value) -> Variable:
        """Make a variable with its first value."""
        return Variable(self, value)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Compute a b + c, in one instruction where the machine has one."""
        return self._intrinsic("fmuladd", a, b, c)

    def sqrt(self, x: Value) -> Value:
        """Compute the square root."""
        return self._intrinsic("sqrt", x)

    def larger(self, a: Value, b: Value) -> Value:
        """Take the larger of two, b where a is not a number."""
        above = self.builder.fcmp_ordered(">", a.raw, b.raw)
        return Value(self, self.builder.select(above, a.raw, b.raw))

    def reduced(self, combined: Callable[..., Value], vector: Value) -> Value:
        """Combine the lanes of a vector into one scalar, by halves."""
        count = vector.raw.type.count
        while count > 1:
            count //= 2
            halves = self.part(vector, 0, count), self.part(vector, count, count)
            vector = combined(*halves)
        return Value(self, self.builder.extract_element(vector.raw, ir.IntType(32)(0)))

    def exp2(self, x: Value, raised: int = 0) -> Value:
        """Compute 2^(x + raised) to within two roundings, for x <= 0; 0 below what is normal."""
        double = self.element == ir.DoubleType()
        fraction, lowest, terms = (52, -1022, 14) if double else (23, -126, 8)
        integer = ir.VectorType(ir.IntType(64 if double else 32), LANES)
        # 2^x = 2^n 2^f with |f| <= 1/2. A number this large has no bits left for f, and n in its
        # last bits.
        large = 1.5 * 2.0**fraction + raised
        x = self.larger(x, self.vector(lowest - raised))
        shifted = x + large
        f = x - (shifted - large)
        logarithm, coefficients = float(np.log(2.0)), [1.0]
        for k in range(1, terms):
            coefficients.append(coefficients[-1] * logarithm / k)
        series = self.vector(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            series = self.fma(series, f, self.vector(coefficient))
        builder = self.builder
        n = builder.bitcast(shifted.raw, integer)
        power = builder.shl(n, self.constant(fraction, integer).raw)
        bits = builder.add(builder.bitcast(series.raw, integer), power)
        # The smallest normal number is 0 thereby, and no other that counts beside it changes.
        return Value(self, builder.bitcast(bits, x.raw.type)) - 2.0**lowest

    @contextmanager
    def loop(self, start: Value | int, stop: Value | int, step: int = 1) -> Iterator[Value]:
        """Repeat what is emitted within, for each index from start up to but not with stop."""
        first, last = self.constant(start, _INT), self.constant(stop, _INT)
        builder, before = self.builder, self.builder.block
        body, after = builder.append_basic_block(), builder.append_basic_block()
        builder.cbranch(builder.icmp_signed("<", first.raw, last.raw), body, after)
        builder.position_at_end(body)
        index = builder.phi(_INT)
        index.add_incoming(first.raw, before)
        yield Value(self, index)
        following = builder.add(index, self.index(step).raw)
        index.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, last.raw), body, after)
        builder.position_at_end(after)

    def _intrinsic(self, name: str, *values: Value) -> Value:
        kind = values[0].raw.type
        full = f"llvm.{name}.v{kind.count}{_SUFFIXES[kind.element]}"
        module = self.builder.module
        function = module.globals.get(full)
        if function is None:
            function = ir.Function(module, ir.FunctionType(kind, [kind] * len(values)), full)
        return Value(self, self.builder.call(function, [value.raw for value in values]))


_KINDS = (Array, Doubles, Indices, Index, Scalar)


def compiled(kernel: Callable[..., None], dtype: np.dtype[Any]) -> Kernel:
    """Compile a kernel for arrays of float32 or float64.

    Args:
        kernel: a function of a `Code` and of arguments that their annotations declare.
        dtype: of the elements of every `Array` and of every `Scalar`.

    Returns:
        A callable that takes NumPy arrays, C-contiguous and of the declared types, where an
        address is declared, and numbers elsewhere. It checks no types and no sizes.
    """
    module, element = ir.Module(), _ELEMENTS[np.dtype(dtype)]
    annotations = inspect.get_annotations(kernel, eval_str=True)
    kinds = [kind for kind in annotations.values() if kind in _KINDS]
    code = Code(module, "kernel", element, kinds)
    kernel(code, *code.arguments)
    code.builder.ret_void()
    with _lock:
        engine = _engine(module)
    scalar = ctypes.c_double if element == ir.DoubleType() else ctypes.c_float
    types = {Index: ctypes.c_int64, Scalar: scalar}
    prototype = ctypes.CFUNCTYPE(None, *[types.get(kind, ctypes.c_void_p) for kind in kinds])
    function = prototype(engine.get_function_address("kernel"))

    def call(*arguments: Any) -> None:
        function(*[_address(x) if isinstance(x, np.ndarray) else x for x in arguments])

    call.engine = engine  # type: ignore[attr-defined]  # the machine code lives as long as it does
    return call


def _address(array: NDArray[Any]) -> int:
    if not array.flags.c_contiguous:
        raise ValueError("compiled code reads arrays in C order")
    return array.ctypes.data


@cache
def variant(make: Callable[..., Callable[..., None]], dtype: np.dtype[Any], *how: int) -> Kernel:
    """Compile what `make` makes for these numbers, once."""
    return compiled(make(*how), dtype)


def _engine(module: ir.Module) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    parsed = llvm.parse_assembly(str(module))
    # Loops are laid out by hand: unrolled ones would run out of registers.
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


def _bytes(element: Any) -> int:
    return 4 if element == ir.FloatType() else 8
