"""A device that is not the CPU, for a machine that has none.

    with fake_device() as device:
        scores = lpprop.refine(logits.to(device), feats.to(device), image.to(device))

Its tensors keep their values on the CPU, where every operation is computed: results are those of
the CPU. What it adds is what a device of its own forbids. An operation on tensors of two devices
raises, and so does reading memory without a copy (`numpy()`, `data_ptr()`). What it lets pass is
what CUDA does, in the versions of PyTorch that let the least pass; `_check` lists it.

With `double=False` it refuses tensors of float64 too, as MPS does, and lpprop takes it for one.

It cannot reach code for CUDA alone, behind `device.type == "cuda"`, nor round as a GPU does.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

from lpprop._core import precision

__all__ = ["fake_device", "why_not"]

NAME = "fake"


def why_not() -> str | None:
    """Say why there is no fake device in this process, if so."""
    if torch.cuda.is_available():  # PyTorch expects one accelerator, and would take this for it
        return "there is a real one"
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        return f"a device written in Python needs torch >= 2.10, this is {torch.__version__}"
    return None


@contextlib.contextmanager
def fake_device(*, double: bool = True) -> Iterator[torch.device]:
    """Let tensors be made on the device, and be moved to it, within."""
    _register()
    # The first backward pass of a process starts a thread for each device. It may have been before
    # this device was known, so the calling thread goes backward by itself.
    with torch.autograd.set_multithreading_enabled(False), _Mode(), _without_double(not double):
        yield torch.device(NAME, 0)


@contextlib.contextmanager
def _without_double(active: bool) -> Iterator[None]:
    """Refuse tensors of float64 within, and tell lpprop that this device has none."""
    if active:
        _REFUSED.add(torch.float64)
        precision.WITHOUT_DOUBLE.add(NAME)
    try:
        yield
    finally:
        _REFUSED.discard(torch.float64)
        precision.WITHOUT_DOUBLE.discard(NAME)


# The dtypes that no tensor of the device may have.
_REFUSED: set[torch.dtype] = set()


class _Mode(TorchDispatchMode):
    """Sees the operations on no tensor of the device, some of which make one."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first operation would import the compiler, to be skipped by it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _FakeTensor(Tensor):
    """A tensor on the device; `inner` holds its values on the CPU, at the same strides."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> _FakeTensor:
        """Wrap values on the CPU."""
        if inner.dtype in _REFUSED:
            raise TypeError(f"this {NAME} device has no {inner.dtype}, as MPS has none.")
        strided = inner.layout == torch.strided
        with torch.inference_mode(inner.is_inference()):
            self: _FakeTensor = Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride() if strided else None,
                storage_offset=inner.storage_offset() if strided else None,
                dtype=inner.dtype,
                layout=inner.layout,
                device=torch.device(NAME, 0),
            )
        self.inner = inner
        return self

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def _unreadable(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"the memory of a {NAME} tensor can't be read. Use Tensor.cpu() first.")

    numpy = __array__ = data_ptr = _unreadable

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __repr__(self) -> str:
        return f"{NAME}({self.inner!r})"


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Check an operation, compute it on the CPU, and put the result where it belongs."""
    given: dict[int, _FakeTensor] = {}
    moved: list[torch.device] = []

    def inside(x: Any) -> Any:
        if isinstance(x, _FakeTensor):
            given[id(x.inner)] = x
            return x.inner
        if isinstance(x, torch.device):
            moved.append(x)
            return torch.device("cpu")
        return x

    def outside(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        # An operation in place returns what it was given.
        return given[id(x)] if id(x) in given else _FakeTensor(x)

    inner = _each(inside, args), {name: _each(inside, x) for name, x in kwargs.items()}
    stays = moved[0].type == NAME if moved else bool(given)
    if given and any(x in _REFUSED for x in _leaves([*args, *kwargs.values()])):
        raise TypeError(f"{func}: a tensor of this {NAME} device cannot become one of float64.")
    if given or stays:
        _check(func, [*enumerate(args), *kwargs.items()])
    result = func(*inner[0], **inner[1])
    for x in given.values():
        if x.shape != x.inner.shape:  # as squeeze_ does
            x.data = _FakeTensor(x.inner)
    return _each(outside, result) if stays else result


def _each(change: Callable[[Any], Any], x: Any) -> Any:
    """Change what stands in nested lists and tuples."""
    return type(x)(_each(change, y) for y in x) if type(x) in (list, tuple) else change(x)


def _leaves(x: Any) -> Iterator[Any]:
    if type(x) in (list, tuple):
        for y in x:
            yield from _leaves(y)
    else:
        yield x


# What moves values between devices.
_MOVES = {"copy", "_to_copy", "to", "fill"}
# The arguments, by their places, that may be on the CPU: of any shape, and of no axis.
_INDICES = {"index": {1}, "index_put": {1}, "_index_put_impl": {1}}
_NUMBERS = {
    "where": {0, 1, 2},
    "masked_fill": {2},
    "index_fill": {3},
    "index_put": {2},
    "_index_put_impl": {2},
}
# Elementwise operations that take no number from the CPU, unlike the rest of those on two tensors.
_STRICT = {"clamp", "masked_fill"}


def _check(func: Any, arguments: list[tuple[Any, Any]]) -> None:
    """Refuse what CUDA refuses.

    It lets pass: moves; indices on the CPU; and a number, that is a tensor of no axis, in what
    works element by element on two tensors and in a few other places, but never as what is written.
    """
    name: str = func._schema.name.removeprefix("aten::")
    written = 0 if name.endswith("_") else None
    name = name.removesuffix("_")
    if name in _MOVES:
        return
    found = [(place, x) for place, argument in arguments for x in _leaves(argument)]
    tensors = [(place, x) for place, x in found if isinstance(x, Tensor)]
    pair = torch.Tag.pointwise in func.tags and len(tensors) == 2 and name not in _STRICT
    for place, x in tensors:
        if isinstance(x, _FakeTensor) or place in _INDICES.get(name, ()):
            continue
        number = x.dim() == 0 and place != written
        if not (number and (pair or place in _NUMBERS.get(name, ()))):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{NAME}:0 and cpu ({func}, argument {place}, {tuple(x.shape)})"
            )
    if any(isinstance(x, torch.Generator) for _, x in found):
        raise RuntimeError(f"Expected a {NAME!r} device type for generator but found 'cpu'")


@functools.cache
def _register() -> list[torch.library.Library]:
    """Make the device known to this process, once; a library's kernels end with it."""

    class Module(backend_registration._DummyBackendModule):
        """What autocast asks about the device."""

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16, torch.float16]

    backend_registration._setup_privateuseone_for_python_backend(NAME, Module())

    # torch.tensor makes a tensor beneath all modes, and copies what it was given into it.
    def make(operation: Any, *args: Any, **kwargs: Any) -> Tensor:
        made: Tensor = _run(operation, args, kwargs | {"device": torch.device(NAME, 0)})
        return made

    def copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
        into, values = (x.inner if isinstance(x, _FakeTensor) else x for x in (target, source))
        into.copy_(values)
        return target

    aten, ops = torch.library.Library("aten", "IMPL"), torch.ops.aten
    for name, operation in {
        "empty_strided": functools.partial(make, ops.empty_strided.default),
        "empty.memory_format": functools.partial(make, ops.empty.memory_format),
        "_copy_from": copy,
    }.items():
        aten.impl(name, operation, "PrivateUse1")
    # Autocast changes no operation here.
    every = torch.library.Library("_", "IMPL")
    every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    return [aten, every]
