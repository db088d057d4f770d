"""Options and their checks: numbers, choices, sizes; one table of checks per function."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

from lpprop._core.errors import InputError

__all__ = [
    "Check",
    "check_above_0",
    "check_boolean",
    "check_choice",
    "check_from_0",
    "check_integer",
    "check_number",
    "check_options",
    "check_size",
    "checked",
    "hint",
    "unknown_option",
]

P = ParamSpec("P")
R = TypeVar("R")

#: A check takes an option's name and value, and raises InputError if the value cannot be used.
Check = Callable[[str, Any], object]


def checked(**checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check a function's options before it runs; its module uses the same checks.

    @checked(k=check_integer, gamma=check_above_0)
    def propagate_patches(logits, feats, *, k=400, gamma=3.0): ...
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            check_options(checks, kwargs)
            return function(*args, **kwargs)

        wrapper.checks = checks  # type: ignore[attr-defined]
        return wrapper

    return decorate


def check_options(checks: Mapping[str, Check], options: Mapping[str, object]) -> None:
    """Run the check of each option that has one."""
    for name, value in options.items():
        if name in checks:
            checks[name](name, value)


def unknown_option(
    name: str, owner: str, known: Iterable[str], inputs: Iterable[str] = ()
) -> InputError:
    """Make the error for a keyword that a refiner or preset does not have."""
    known = list(known)
    return InputError.of(
        name,
        got=f"an option that {owner} does not have",
        expected=f"one of {', '.join(known)}" if known else "no option",
        fix=hint(name, [*known, *inputs], otherwise=f"Remove {name}."),
    )


def hint(
    name: str,
    known: Iterable[str],
    otherwise: str,
    *,
    cutoff: float = 0.6,
    show: Callable[[str], str] = str,
) -> str:
    """Suggest the closest known name, or say what else to do."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"Did you mean {show(close[0])}?" if close else otherwise


def check_boolean(name: str, value: object) -> None:
    """Refuse anything but True and False."""
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
    """Refuse anything but a finite number from `low` to `high` (an open bound is excluded)."""
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


check_above_0 = partial(check_number, low=0, open_low=True)


check_from_0 = partial(check_number, low=0)


def check_integer(name: str, value: object, *, low: int = 1) -> int:
    """Refuse anything but an integer >= `low`."""
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
    """Refuse anything but a pair (H, W) of positive integers whose product torch can index."""
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
