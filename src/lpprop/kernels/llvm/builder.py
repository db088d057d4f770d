"""A small language for vector loops: Python functions that emit LLVM's instructions.

A kernel is a function that takes a `Code` and its arguments, and emits instructions through them.
The annotations of the arguments are its signature; `jit.compile_kernel` compiles it.

    def scale(code: Code, x: Array, factor: Scalar, count: Index) -> None:
        with code.loop(0, count, LANES) as i:
            x.store(i, code.splat(factor) * x.load(i))

Pointers are opaque, as in LLVM: every load and every address names the type that it points to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir

__all__ = [
    "BLOCK",
    "GROUP",
    "KINDS",
    "LANES",
    "Array",
    "Code",
    "Doubles",
    "Index",
    "Indices",
    "Scalar",
    "Value",
    "Variable",
]

#: Elements per vector, unless a kernel asks for others; a machine with shorter registers takes two
#: or more instructions for one.
LANES = 8
#: Pixels that are summed at a time, so that no addition waits for the one before it.
BLOCK = 4
#: Classes that are summed at a time: BLOCK times three vectors of sums fill the registers.
GROUP = 3 * LANES

_INT, _INT32 = ir.IntType(64), ir.IntType(32)
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()
_POINTER = ir.PointerType()
_SUFFIXES = {_FLOAT: "f32", _DOUBLE: "f64"}


class Value:
    """What an instruction computes: an index, a scalar, or a vector of either."""

    def __init__(self, code: Code, raw: Any) -> None:
        self.code, self.raw = code, raw

    def __add__(self, other: Value | float) -> Value:
        return self._combine("add", other)

    def __sub__(self, other: Value | float) -> Value:
        return self._combine("sub", other)

    def __mul__(self, other: Value | float) -> Value:
        return self._combine("mul", other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._combine("div", other)

    def _combine(self, name: str, other: Value | float) -> Value:
        kind = self.raw.type
        prefix = "" if isinstance(getattr(kind, "element", kind), ir.IntType) else "f"
        emit = getattr(self.code.builder, prefix + name)
        return Value(self.code, emit(self.raw, self.code.constant(other, kind).raw))


class Index(Value):
    """A 64-bit integer argument."""


class Scalar(Value):
    """A floating-point argument."""


class Array:
    """An argument that is the address of floating-point elements."""

    #: The elements' type where it is not the kernel's own.
    fixed: Any = None

    def __init__(self, code: Code, raw: Any) -> None:
        self.code, self.raw = code, raw
        self.element = self.fixed or code.element

    def load(self, place: Value, lanes: int | None = None) -> Value:
        """Read `lanes` elements from a place on: a vector, or a scalar if there is one."""
        lanes = self.code.lanes if lanes is None else lanes
        kind = self.element if lanes == 1 else ir.VectorType(self.element, lanes)
        address, align = self._address(place), _bytes(self.element)
        return Value(self.code, self.code.builder.load(address, align=align, typ=kind))

    def store(self, place: Value, value: Value) -> None:
        """Write a scalar, or a vector of elements, from a place on."""
        self.code.builder.store(value.raw, self._address(place), align=_bytes(self.element))

    def prefetch(self, place: Value) -> None:
        """Bring the cache line of a place into the second cache."""
        module, address = self.code.builder.module, self._address(place)
        name = "llvm.prefetch.p0"
        function = module.globals.get(name)
        if function is None:
            kind = ir.FunctionType(ir.VoidType(), [_POINTER, _INT32, _INT32, _INT32])
            function = ir.Function(module, kind, name)
        self.code.builder.call(function, [address, _INT32(0), _INT32(2), _INT32(1)])

    def splat(self, place: Value) -> Value:
        """Read one element into every lane."""
        return self.code.splat(self.load(place, 1))

    def _address(self, place: Value) -> Any:
        return self.code.builder.gep(self.raw, [place.raw], source_etype=self.element)


class Indices(Array):
    """An argument that is the address of 64-bit integers."""

    fixed = _INT

    def unpack(self, count: int) -> list[Value]:
        """Read the first integers."""
        return [self.load(self.code.index(i), 1) for i in range(count)]


class Doubles(Array):
    """An argument that is the address of doubles, whatever the kernel's own type is."""

    fixed = _DOUBLE

    def add(self, place: Value, value: Value) -> None:
        """Add a vector to the elements from a place on."""
        lanes = value.raw.type.count
        double = ir.VectorType(_DOUBLE, lanes)
        if value.raw.type != double:
            value = Value(self.code, self.code.builder.fpext(value.raw, double))
        self.store(place, self.load(place, lanes) + value)


class Variable:
    """A value that changes from one round of a loop to the next; it lives in a register."""

    def __init__(self, code: Code, value: Value) -> None:
        self.code, self._kind = code, value.raw.type
        with code.builder.goto_entry_block():
            self._slot = code.builder.alloca(self._kind)
        self.set(value)

    def get(self) -> Value:
        """Return the present value."""
        return Value(self.code, self.code.builder.load(self._slot, typ=self._kind))

    def set(self, value: Value) -> None:
        """Replace the value."""
        self.code.builder.store(value.raw, self._slot)


class Code:
    """The function that a kernel is written into."""

    def __init__(
        self, module: ir.Module, name: str, dtype: np.dtype[Any], kinds: Sequence[Any], lanes: int
    ) -> None:
        self.lanes = lanes
        self.element = _DOUBLE if dtype == np.float64 else _FLOAT
        types = {Index: _INT, Scalar: self.element}
        signature = ir.FunctionType(ir.VoidType(), [types.get(kind, _POINTER) for kind in kinds])
        function = ir.Function(module, signature, name)
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
        return self.constant(x, ir.VectorType(self.element, self.lanes))

    def splat(self, scalar: Value) -> Value:
        """Copy a scalar into every lane."""
        kind = ir.VectorType(scalar.raw.type, self.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar.raw, _INT32(0))
        mask = ir.Constant(ir.VectorType(_INT32, self.lanes), [0] * self.lanes)
        return Value(self, self.builder.shuffle_vector(first, undefined, mask))

    def part(self, vector: Value, start: int, count: int) -> Value:
        """Take some lanes of a vector, as a shorter one."""
        mask = ir.Constant(ir.VectorType(_INT32, count), list(range(start, start + count)))
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

    def maximum(self, a: Value, b: Value) -> Value:
        """Take the larger of two; b where a is not a number."""
        above = self.builder.fcmp_ordered(">", a.raw, b.raw)
        return Value(self, self.builder.select(above, a.raw, b.raw))

    def reduce(self, combine: Callable[..., Value], vector: Value) -> Value:
        """Combine the lanes of a vector into one scalar, by halves."""
        count = vector.raw.type.count
        while count > 1:
            count //= 2
            vector = combine(self.part(vector, 0, count), self.part(vector, count, count))
        return Value(self, self.builder.extract_element(vector.raw, _INT32(0)))

    def exp2(self, x: Value, raised: int = 0) -> Value:
        """Compute 2^(x + raised) for x <= 0 to within two roundings; 0 where that is subnormal."""
        double = self.element == _DOUBLE
        fraction, lowest, terms = (52, -1022, 14) if double else (23, -126, 8)
        integer = ir.VectorType(_INT if double else _INT32, self.lanes)
        # 2^x = 2^n 2^f with |f| <= 1/2. Adding this number rounds x to n: the sum has no bits left
        # for f, and holds n in its last bits.
        large = 1.5 * 2.0**fraction + raised
        x = self.maximum(x, self.vector(lowest - raised))
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
        # This turns the smallest normal number into 0, and vanishes beside all that count.
        return Value(self, builder.bitcast(bits, x.raw.type)) - 2.0**lowest

    @contextmanager
    def loop(self, start: Value | int, stop: Value | int, step: int = 1) -> Iterator[Value]:
        """Repeat what is emitted within for each index of range(start, stop, step)."""
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
        vector = isinstance(kind, ir.VectorType)
        kind_name = f"v{kind.count}{_SUFFIXES[kind.element]}" if vector else _SUFFIXES[kind]
        full = f"llvm.{name}.{kind_name}"
        module = self.builder.module
        function = module.globals.get(full)
        if function is None:
            function = ir.Function(module, ir.FunctionType(kind, [kind] * len(values)), full)
        return Value(self, self.builder.call(function, [value.raw for value in values]))


#: What an argument of a kernel can be.
KINDS = (Array, Doubles, Indices, Index, Scalar)


def _bytes(element: Any) -> int:
    return 4 if element == _FLOAT else 8
