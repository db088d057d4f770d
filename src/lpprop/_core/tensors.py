"""Kinds of tensors: which can be computed with, and which are refused by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lpprop._core.errors import InputError

__all__ = ["as_int64", "check_kind", "densify", "resolve"]

# Other floating-point formats, such as float8, only store numbers: PyTorch does not add them.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def resolve(value: Any) -> Any:
    """Carry out what a lazy view only notes, such as the minus of the imaginary part of z.conj().

    Anything but a tensor, or a list or tuple of tensors, is returned as it is.
    """
    if isinstance(value, Tensor):
        return value.resolve_neg() if value.is_neg() else value
    if type(value) in (list, tuple) and any(isinstance(x, Tensor) for x in value):
        return type(value)(resolve(x) for x in value)
    return value


def densify(tensor: Tensor) -> Tensor:
    """Return a sparse, MKL-DNN or quantised tensor as a plain one, and others as they are."""
    if tensor.is_nested:
        return tensor
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor if tensor.layout is torch.strided else tensor.to_dense()


def as_int64(name: str, numbers: Tensor) -> Tensor:
    """Return integers as int64, since torch computes with few others; refuse those beyond it."""
    wide = numbers.long()
    if numbers.dtype == torch.uint64 and bool((wide < 0).any()):
        raise InputError.of(
            name, got="numbers from 2**63", expected="those of int64", fix="Number them anew."
        )
    return wide


def check_kind(name: str, tensor: Tensor) -> None:
    """Refuse a tensor whose values cannot be read or computed with.

    Raises:
        InputError: a nested, sparse, MKL-DNN or quantised tensor, one without values, one inside
            `torch.vmap`, or a floating-point format that only stores numbers.
    """
    if torch._C._functorch.is_batchedtensor(tensor):
        got, fix = "a tensor inside torch.vmap", "Call it on the whole batch: it takes batches."
    elif tensor.is_nested:
        got, fix = "a nested tensor", "Pass its items one by one, or stack them if they are alike."
    elif tensor.is_meta or type(tensor).__name__ == "FakeTensor":
        got, fix = "a tensor without values (meta)", "Load the values first."
    elif tensor.is_quantized:
        got, fix = f"a quantised tensor ({tensor.dtype})", f"Pass {name}.dequantize()."
    elif tensor.layout is not torch.strided:
        got, fix = f"a {tensor.layout} tensor", f"Pass {name}.to_dense()."
    elif tensor.is_floating_point() and tensor.dtype not in _FLOATS:
        got, fix = f"dtype {tensor.dtype}", f"Pass {name}.float()."
    else:
        return
    raise InputError.of(name, got=got, expected="a plain, dense tensor of numbers", fix=fix)
