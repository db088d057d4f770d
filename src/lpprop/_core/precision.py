"""In which precision to compute, and how to give the result back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch
from torch import Tensor

from lpprop._core.checks import all_finite
from lpprop._core.errors import InputError

__all__ = ["compute_dtype", "full_precision", "returned", "uncompiled"]

P = ParamSpec("P")


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype to compute in: the tensor's own, but never less than float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def uncompiled(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Keep torch.compile out of a function; it breaks its graph there, and runs it as it stands.

    Tracing iterations that stop by what they see takes long, and gains nothing.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        # Only there, since torch.compiler.disable imports all of the compiler.
        run = torch.compiler.disable(function) if torch.compiler.is_compiling() else function
        return run(*args, **kwargs)

    return wrapper


def full_precision(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Shut autocast out of a function, which would round a solver's dot products to half."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        given = [*args, *kwargs.values()]
        given += [x for item in given if isinstance(item, (list, tuple)) for x in item]
        device = next((x.device.type for x in given if isinstance(x, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return uncompiled(wrapper)


def returned(result: Tensor, like: Tensor, name: str = "logits") -> Tensor:
    """Cast to the dtype of the input of that name; refuse what it cannot hold, such as infinity."""
    cast = result.to(like.dtype)
    if not all_finite(cast):
        raise InputError.of(
            name,
            got=f"values up to {float(like.detach().abs().max()):.4g} in {like.dtype}",
            expected=f"{name} whose result that dtype can hold",
            fix=f"Scale the {name} down."
            if like.dtype.itemsize >= 4
            else f"Scale the {name} down, or pass float32.",
        )
    return cast
