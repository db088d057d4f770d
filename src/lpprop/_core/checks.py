"""Checks of tensors, which run before any work.

An axis name stands for one size in ALL tensors of a call, so that a batch of one or a 1x1 feature
map never broadcasts against a larger tensor by accident.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor

from lpprop._core.errors import InputError, warn
from lpprop._core.scans import has_passed, mark_passed, values_are_checked
from lpprop._core.tensors import check_kind

__all__ = [
    "all_finite",
    "check_axes",
    "check_distribution",
    "check_finite",
    "check_image",
    "check_non_negative",
    "check_positive_sums",
    "check_precision",
    "check_tensors",
    "finite_bounds",
    "is_finite",
    "require",
]

T = TypeVar("T")

# Rounding may leave values this far outside [0, 1].
_IMAGE_SLACK = 1e-3
# No photograph is darker: 1/255 is what a mask of 0 and 1 becomes, and 255 divided twice.
_DARK = 1.5 / 255


#: A tensor, its axes such as "B C h w", and the kinds of numbers that it may hold; floats if none.
Checked = tuple[object, str] | tuple[object, str, Sequence[str]]


def check_tensors(**tensors: Checked) -> dict[str, int]:
    """Check type, rank, sizes, device and values of `name=(tensor, "B C h w")`.

    An axis is a name, which stands for one size in all tensors, or a number, which is the size.
    Values must be finite, and those of a tensor named image RGB in [0, 1]. The kinds of numbers are
    "float", "bool" and "integer": `masks=(masks, "B M H W", ("bool",))`. Returns the sizes by name.

    >>> check_tensors(logits=(torch.zeros(2, 5, 4, 4), "B C h w"))
    {'B': 2, 'C': 5, 'h': 4, 'w': 4}
    >>> check_tensors(logits=(torch.zeros(2, 5, 4, 4), "B C h w"),
    ...               feats=(torch.zeros(1, 8, 4, 4), "B D h w"))
    Traceback (most recent call last):
    lpprop.InputError: feats: got shape (1, 8, 4, 4), expected (B=2, D, h=4, w=4), since
    logits has B=2. Nothing is broadcast: give every tensor its full size.
    """
    sizes = check_axes(**tensors)
    # Values come last, since only they cost a pass over the data.
    for name, (given, *_) in tensors.items():
        tensor = cast(Tensor, given)
        if tensor.is_floating_point():
            check_values = check_image if name == "image" else check_finite
            check_values(name, tensor)
    return sizes


def check_axes(**tensors: Checked) -> dict[str, int]:
    """Check all that `check_tensors` checks except values, which the caller checks."""
    sizes: dict[str, int] = {}
    owner: dict[str, str] = {}
    first: tuple[str, torch.device] | None = None
    for name, (given, axes, *kinds) in tensors.items():
        names = axes.split()
        tensor = _as_tensor(name, given, names, kinds[0] if kinds else ("float",))
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


def require(name: str, value: T | None) -> T:
    """Refuse None for an input that is optional elsewhere and required here."""
    if value is None:
        raise InputError.of(
            name, got="None", expected="a tensor", fix=f"This method needs it: pass {name}=."
        )
    return value


# For each kind of numbers, its name in errors and the test that a dtype must pass.
_KINDS: dict[str, tuple[str, Callable[[torch.dtype], bool]]] = {
    "float": ("a floating-point dtype", lambda dtype: dtype.is_floating_point),
    "bool": ("torch.bool", lambda dtype: dtype == torch.bool),
    "integer": (
        "an integer dtype",
        lambda dtype: not (dtype.is_floating_point or dtype.is_complex) and dtype != torch.bool,
    ),
}


def _as_tensor(name: str, tensor: object, axes: Sequence[str], kinds: Sequence[str]) -> Tensor:
    shape = f"({', '.join(axes)})"
    tensor = require(name, tensor)
    if not isinstance(tensor, Tensor):
        raise InputError.of(
            name,
            got=type(tensor).__name__,
            expected=f"a torch.Tensor {shape}",
            fix="Convert it with torch.as_tensor, or call lpprop.refine, which also takes arrays.",
        )
    check_kind(name, tensor)
    if not any(_KINDS[kind][1](tensor.dtype) for kind in kinds):
        raise InputError.of(
            name,
            got=f"dtype {tensor.dtype}",
            expected=" or ".join(_KINDS[kind][0] for kind in kinds),
            fix="Convert it to floating point." if "float" in kinds else "Convert it.",
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
    # Sums read the data once and write little. They may overflow; only then values are tested.
    tensor = tensor.detach()
    return bool(torch.isfinite(tensor.sum(-1)).all() or torch.isfinite(tensor).all())


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity, which one product would spread over every patch."""
    if not is_finite(tensor):
        raise _not_finite(name, tensor)


def is_finite(tensor: Tensor) -> bool:
    """Tell whether a tensor is finite: scan it, once per call and only if values are checked."""
    if values_are_checked() and not has_passed(tensor):
        if not all_finite(tensor):
            return False
        mark_passed(tensor)
    return True


def _not_finite(name: str, tensor: Tensor) -> InputError:
    wrong = ~torch.isfinite(tensor)
    where = tuple(wrong.nonzero()[0].tolist())
    finite = tensor.detach()[~wrong]
    if not len(finite):
        fix = "Find their source: no value is usable."
    else:
        # The defaults of torch.nan_to_num are values so large that their sums overflow.
        low, high = (f"{float(x):.6g}" for x in (finite.min(), finite.max()))
        fix = (
            f"Replace -inf with {name}.clamp(min={low}), the lowest of the others."
            if bool(torch.isneginf(tensor[wrong]).all())
            else "Find their source, or replace them: "
            f"torch.nan_to_num({name}, nan={low}, posinf={high}, neginf={low})."
        )
    return InputError.of(
        name,
        got=f"{int(wrong.sum())} NaN or infinite of {tensor.numel()} values, the first at {where}",
        expected="finite values",
        fix=fix,
    )


def finite_bounds(name: str, tensor: Tensor) -> list[tuple[float, float]]:
    """Return the smallest and the largest value of each item; refuse NaN and infinity.

    This is cheaper than `check_finite` when the bounds are needed anyway.
    """
    found = [torch.aminmax(item) for item in tensor.detach()]
    bounds = [(float(low), float(high)) for low, high in found]
    if values_are_checked() and not all(math.isfinite(x) for pair in bounds for x in pair):
        raise _not_finite(name, tensor)
    mark_passed(tensor)
    return bounds


def check_image(name: str, image: Tensor) -> None:
    """Refuse values outside [0, 1] and name the likely cause."""
    if not values_are_checked() or has_passed(image, "image"):
        return
    low, high = (float(bound) for bound in torch.aminmax(image.detach()))
    if low >= -_IMAGE_SLACK and high <= 1 + _IMAGE_SLACK:
        mark_passed(image)
        mark_passed(image, "image")
        if 0 < high < _DARK:
            warn(
                "dark image",
                f"{name}: got values up to {high:.3g}, all but black. It looks divided by 255 "
                "twice, or like a mask of 0 and 1 in uint8: pass colours in [0, 1], or 0 to 255 in "
                "uint8.",
            )
        return
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _not_finite(name, image)
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
    if not values_are_checked():
        return
    lowest = float(tensor.detach().min())
    if lowest < 0:
        raise InputError.of(
            name, got=f"values down to {lowest:.4g}", expected="no negative value", fix=fix
        )


def check_positive_sums(name: str, tensor: Tensor, *axes: int) -> None:
    """Refuse rows or columns of zeros; the values must not be negative."""
    if not values_are_checked():
        return
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
    """Refuse negative values, and rows that do not sum to 1, except for rows of zeros."""
    if not values_are_checked():
        return
    check_non_negative(name, tensor, fix)
    total = tensor.detach().sum(-1, dtype=torch.promote_types(tensor.dtype, torch.float32))
    slack = 1e-3 if tensor.dtype.itemsize > 2 else 2e-2  # the entries' rounding adds up
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
