"""Checks of arguments, run before any work.

Axis names bind ACROSS tensors, so that a batch of one or a 1x1 feature map never broadcasts
against something larger without being asked to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from lpprop._core.errors import InputError

__all__ = [
    "Check",
    "all_finite",
    "check_axes",
    "check_boolean",
    "check_choice",
    "check_distribution",
    "check_finite",
    "check_image",
    "check_integer",
    "check_non_negative",
    "check_number",
    "check_number_from_0",
    "check_options",
    "check_positive_number",
    "check_positive_sums",
    "check_precision",
    "check_size",
    "check_tensors",
    "finite_bounds",
    "needed",
]

T = TypeVar("T")

#: Takes an option's name and value, and raises InputError where it cannot be used.
Check = Callable[[str, Any], object]

# What rounding leaves outside [0, 1].
_IMAGE_SLACK = 1e-3


def check_tensors(**tensors: tuple[object, str]) -> dict[str, int]:
    """Check type, rank, sizes, device and finiteness of `name=(tensor, "B C h w")`.

    An axis is a name, which must have one size in all tensors, or a number, which is its size.
    Returns the sizes by name.

    >>> check_tensors(logits=(torch.zeros(2, 5, 4, 4), "B C h w"))
    {'B': 2, 'C': 5, 'h': 4, 'w': 4}
    >>> check_tensors(logits=(torch.zeros(2, 5, 4, 4), "B C h w"),
    ...               feats=(torch.zeros(1, 8, 4, 4), "B D h w"))
    Traceback (most recent call last):
    lpprop.InputError: feats: got shape (1, 8, 4, 4), expected (B=2, D, h=4, w=4), since
    logits has B=2. Nothing is broadcast: give every tensor its full size.
    """
    sizes = check_axes(**tensors)
    # Last, since it alone costs a pass over the data.
    for name, (tensor, _) in tensors.items():
        check_finite(name, cast(Tensor, tensor))
    return sizes


def check_axes(**tensors: tuple[object, str]) -> dict[str, int]:
    """Check all that `check_tensors` does but finiteness, which is left to the caller."""
    sizes: dict[str, int] = {}
    owner: dict[str, str] = {}
    first: tuple[str, torch.device] | None = None
    for name, (given, axes) in tensors.items():
        names = axes.split()
        tensor = _as_float_tensor(name, given, names)
        _check_axes(name, tensor, names, sizes, owner)
        if first is None:
            first = (name, tensor.device)
        elif tensor.device != first[1]:
            raise InputError.of(
                name,
                got=f"a tensor on {tensor.device}",
                expected=f"one on {first[1]}, where {first[0]} is",
                fix=f"Move it with {name}.to({str(first[1])!r}).",
            )
    return sizes


def needed(name: str, value: T | None) -> T:
    """Return an optional input that is not optional here."""
    if value is None:
        raise InputError.of(
            name, got="None", expected="a tensor", fix=f"This method needs it: pass {name}=."
        )
    return value


def _as_float_tensor(name: str, tensor: object, axes: Sequence[str]) -> Tensor:
    shape = f"({', '.join(axes)})"
    tensor = needed(name, tensor)
    if not isinstance(tensor, Tensor):
        raise InputError.of(
            name,
            got=type(tensor).__name__,
            expected=f"a torch.Tensor {shape}",
            fix="Convert it with torch.as_tensor, or call lpprop.refine, which also takes arrays.",
        )
    if tensor.layout is not torch.strided:
        raise InputError.of(
            name, got=f"a {tensor.layout} tensor", expected="a dense one", fix="Use .to_dense()."
        )
    if not tensor.is_floating_point():
        raise InputError.of(
            name,
            got=f"dtype {tensor.dtype}",
            expected="a floating-point dtype",
            fix="Convert it to floating point.",
        )
    return tensor


def _check_axes(
    name: str, tensor: Tensor, axes: Sequence[str], sizes: dict[str, int], owner: dict[str, str]
) -> None:
    got = f"shape {tuple(tensor.shape)}"
    if tensor.ndim != len(axes):
        raise InputError.of(
            name,
            got=got,
            expected=f"{len(axes)} axes ({', '.join(axes)})",
            fix="Add the missing axes with .unsqueeze(0), or drop the extra ones.",
        )
    if 0 in tensor.shape:
        raise InputError.of(
            name,
            got=got,
            expected="no axis of size 0",
            fix="Skip empty batches, images and class lists before the call.",
        )
    clash = ""
    for axis, size in zip(axes, tensor.shape, strict=True):
        known = int(axis) if axis.isdigit() else sizes.setdefault(axis, size)
        source = owner.setdefault(axis, name)
        if size != known and not clash:
            clash = "" if axis.isdigit() else f", since {source} has {axis}={known}"
            clash = clash or " by definition"
    if clash:
        wanted = ", ".join(
            f"{axis}={sizes[axis]}" if owner[axis] != name and axis in sizes else axis
            for axis in axes
        )
        raise InputError.of(
            name,
            got=got,
            expected=f"({wanted}){clash}",
            fix="Nothing is broadcast: give every tensor its full size.",
        )


def all_finite(tensor: Tensor) -> bool:
    """Tell whether no value is NaN or infinite."""
    # Sums read the data once and write little; only where one is not finite is more to be done.
    tensor = tensor.detach()
    return bool(torch.isfinite(tensor.sum(-1)).all() or torch.isfinite(tensor).all())


def finite_bounds(name: str, tensor: Tensor) -> list[tuple[float, float]]:
    """Return the least and the largest value of each item; refuse NaN and infinity.

    Who needs both takes a pass over the data fewer than with `check_finite`.
    """
    found = [torch.aminmax(item) for item in tensor.detach()]
    bounds = [(float(low), float(high)) for low, high in found]
    if not all(math.isfinite(bound) for pair in bounds for bound in pair):
        check_finite(name, tensor)
    return bounds


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity, which one product would spread over every patch."""
    if not all_finite(tensor):
        finite = torch.isfinite(tensor)
        bad = int((~finite).sum())
        where = tuple((~finite).nonzero()[0].tolist())
        raise InputError.of(
            name,
            got=f"{bad} NaN or infinite of {tensor.numel()} values, the first at {where}",
            expected="finite values",
            fix="Find their source, or replace them with torch.nan_to_num.",
        )


def check_image(image: Tensor, name: str = "image") -> None:
    """Refuse values outside [0, 1] and name the likely cause."""
    low, high = (float(bound) for bound in torch.aminmax(image.detach()))
    if low >= -_IMAGE_SLACK and high <= 1 + _IMAGE_SLACK:
        return
    if low > -0.5 and high < 1.5:
        cause = "It looks resampled, which overshoots at edges: clamp it with image.clamp(0, 1)."
    elif low < 0:
        cause = "It looks normalised: undo it with image * std + mean."
    else:
        cause = "It looks like 0-255: divide by 255, or pass uint8 to lpprop.refine."
    raise InputError.of(
        name, got=f"values from {low:.4g} to {high:.4g}", expected="RGB in [0, 1]", fix=cause
    )


def check_non_negative(name: str, tensor: Tensor, fix: str) -> None:
    """Refuse negative values, and say what to do about them."""
    lowest = float(tensor.detach().min())
    if lowest < 0:
        raise InputError.of(
            name, got=f"values down to {lowest:.4g}", expected="no negative value", fix=fix
        )


def check_positive_sums(name: str, tensor: Tensor, *axes: int) -> None:
    """Refuse rows or columns of zeros, among values that are not negative."""
    for axis in axes:
        empty = tensor.detach().amax(axis) == 0
        if bool(empty.any()):
            kind = "row" if axis == tensor.ndim - 1 else "column"
            first = tuple(empty.nonzero()[0].tolist())
            raise InputError.of(
                name,
                got=f"zeros in {int(empty.sum())} of {empty.numel()} {kind}s, the first at {first}",
                expected=f"a positive entry in every {kind}",
                fix="Add a small number to every entry, such as 1e-6, if that is meant.",
            )


def check_distribution(name: str, tensor: Tensor, fix: str) -> None:
    """Refuse rows that are negative somewhere, or sum to neither 1 nor, being zeros, 0."""
    check_non_negative(name, tensor, fix)
    total = tensor.detach().sum(-1, dtype=torch.promote_types(tensor.dtype, torch.float32))
    slack = 1e-3 if tensor.dtype.itemsize > 2 else 2e-2  # what rounding each entry can add up to
    wrong = ((total - 1).abs() > slack) & (total != 0)
    if bool(wrong.any()):
        where = tuple(wrong.nonzero()[0].tolist())
        raise InputError.of(
            name,
            got=f"a row that sums to {float(total[where]):.4g}, the first at {where}",
            expected="rows that sum to 1, or rows of zeros for rejected classes",
            fix=fix,
        )


def check_precision(name: str, tensor: Tensor) -> None:
    """Refuse half precision, in which an iteration does not converge."""
    if tensor.dtype.itemsize < 4:
        raise InputError.of(
            name,
            got=f"dtype {tensor.dtype}",
            expected="float32 or float64",
            fix=f"Pass {name}.float().",
        )


def check_boolean(name: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise InputError.of(name, got=repr(value), expected="True or False", fix=f"Change {name}.")


def check_number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Refuse what is not a finite number between `low` and `high` (open: excluded)."""
    nan = math.nan
    bounds = f"{'(' if open_low or low == -math.inf else '['}{low:g}, {high:g}"
    bounds += ")" if open_high or high == math.inf else "]"
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else nan
    except OverflowError:
        number = nan
    inside = (number > low if open_low else number >= low) and (
        number < high if open_high else number <= high
    )
    if not (inside and math.isfinite(number)):
        raise InputError.of(
            name, got=repr(value), expected=f"a number in {bounds}", fix=f"Change {name}."
        )
    return number


#: The checks of a number above 0, and of one that is not below it.
check_positive_number = partial(check_number, low=0, open_low=True)
check_number_from_0 = partial(check_number, low=0)


def check_integer(name: str, value: object, *, low: int = 1) -> int:
    """Refuse what is not an integer of at least `low`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise InputError.of(
            name, got=repr(value), expected=f"an integer >= {low}", fix=f"Change {name}."
        )
    return int(value)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a name that is not one of `choices`."""
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise InputError.of(
            name, got=repr(value), expected=f"one of {known}", fix=f"Change {name}."
        )


def check_size(name: str, value: object) -> tuple[int, int]:
    """Refuse what is not a pair (H, W) of positive integers whose product torch can index."""
    if not isinstance(value, Sequence) or len(value) != 2:
        raise InputError.of(
            name, got=repr(value), expected="a pair (H, W)", fix=f"Pass {name}=(height, width)."
        )
    height, width = (check_integer(f"{name}[{i}]", side) for i, side in enumerate(value))
    if height * width > 2**31 - 1:
        raise InputError.of(
            name,
            got=f"{height} x {width} pixels",
            expected="fewer than 2**31",
            fix="Work on tiles of the image.",
        )
    return height, width


def check_options(checks: Mapping[str, Check], options: Mapping[str, object]) -> None:
    """Run the check of each option that has one."""
    for name, value in options.items():
        if name in checks:
            checks[name](name, value)
