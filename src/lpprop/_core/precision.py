"""The precision of a computation, and the cast of its result."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from lpprop._core.checks import check_finite
from lpprop._core.errors import InputError
from lpprop._core.scans import one_call
from lpprop._core.tensors import resolve

__all__ = [
    "cast_back",
    "compute_dtype",
    "full_precision",
    "has_double",
    "in_double",
    "move_to",
    "uncompiled",
]

P = ParamSpec("P")
R = TypeVar("R")


#: Types of devices that have no float64.
WITHOUT_DOUBLE = {"mps"}


def has_double(device: torch.device) -> bool:
    """Tell whether a device has float64.

    >>> has_double(torch.device("cpu")), has_double(torch.device("mps"))
    (True, False)
    """
    return device.type not in WITHOUT_DOUBLE


def in_double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64: where it is, or on the CPU if its device has no float64."""
    return (tensor if has_double(tensor.device) else tensor.cpu()).double()


def move_to(device: torch.device | str, tensor: Tensor) -> Tensor:
    """Move a tensor to a device: as float32 if it is of float64, which the device has not."""
    narrows = tensor.dtype == torch.float64 and not has_double(torch.device(device))
    return (tensor.float() if narrows else tensor).to(device)


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype to compute in: the tensor's own, but never less than float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """Exclude a function from torch.compile (graph break), and scan each tensor once inside it.

    When its loops stop depends on the data, so that tracing them takes long and gains nothing.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        # Only while compiling, since torch.compiler.disable imports the whole compiler.
        run = torch.compiler.disable(call) if torch.compiler.is_compiling() else call
        return run(*args, **kwargs)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with one_call():
            return function(*args, **kwargs)

    return wrapper


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Disable autocast inside a function: it would round a solver's dot products to half."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        given: Any = [resolve(x) for x in args]
        named: Any = {name: resolve(x) for name, x in kwargs.items()}
        every = [*given, *named.values()]
        every += [x for item in every if isinstance(item, (list, tuple)) for x in item]
        device = next((x.device.type for x in every if isinstance(x, Tensor)), "cpu")
        if not torch.amp.is_autocast_available(device):
            return function(*given, **named)
        with torch.autocast(device, enabled=False):
            return function(*given, **named)

    return uncompiled(wrapper)


def cast_back(result: Tensor, like: Tensor, name: str = "logits") -> Tensor:
    """Cast a result to the dtype of the input `name`; refuse values that this dtype cannot hold."""
    cast = result.to(like.dtype)
    try:
        check_finite(name, cast)
    except InputError:
        raise InputError.of(
            name,
            got=f"values up to {float(like.detach().abs().max()):.4g} in {like.dtype}",
            expected=f"{name} whose result that dtype can hold",
            fix=f"Scale the {name} down."
            if like.dtype.itemsize >= 4
            else f"Scale the {name} down, or pass float32.",
        ) from None
    return cast
