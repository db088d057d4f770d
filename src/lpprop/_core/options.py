"""Options and their checks: numbers, choices, sizes; one table of checks per function."""

from __future__ import annotations

import contextlib
import difflib
import functools
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeGuard, TypeVar

import numpy as np

from lpprop._core.errors import InputError

__all__ = [
    "Check",
    "check_above_0",
    "check_boolean",
    "check_choice",
    "check_from_0",
    "check_integer",
    "check_names",
    "check_number",
    "check_options",
    "check_size",
    "checked",
    "hint",
    "is_listed",
    "or_auto",
    "unknown_option",
]

P = ParamSpec("P")
R = TypeVar("R")

#: A check takes an option's name and value, and returns the value to work with, such as a Python
#: integer for one of NumPy; it raises InputError if the value cannot be used.
Check = Callable[[str, Any], Any]


def checked(**checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check a function's options before it runs; its module uses the same checks.

    @checked(k=check_integer, gamma=check_above_0)
    def propagate_patches(logits, feats, *, k=400, gamma=3.0): ...
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            usable: Any = check_options(checks, kwargs)
            return function(*args, **usable)

        wrapper.checks = checks  # type: ignore[attr-defined]
        return wrapper

    return decorate


def check_options(checks: Mapping[str, Check], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options to work with: what the check of each returns, if it has one."""
    return {
        name: checks[name](name, value) if name in checks else value
        for name, value in options.items()
    }


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


def or_auto(check: Check) -> Check:
    """Return a check that also lets "auto" pass.

    >>> or_auto(check_integer)("k", "auto"), or_auto(check_integer)("k", 3)
    ('auto', 3)
    >>> or_auto(check_integer)("k", "Auto")
    Traceback (most recent call last):
    lpprop.InputError: k: got 'Auto', expected an integer >= 1, or "auto". Change k.
    """

    def check_or_auto(name: str, value: object) -> Any:
        if isinstance(value, str) and value == "auto":
            return "auto"
        try:
            return check(name, value)
        except InputError as error:
            expected, _, fix = str(error).rpartition(". ")
            raise InputError(f'{expected}, or "auto". {fix}') from None

    return check_or_auto


def check_boolean(name: str, value: object) -> bool:
    """Return True or False; refuse anything else."""
    if not isinstance(value, (bool, np.bool_)):
        raise _wrong(name, value, "True or False")
    return bool(value)


def check_number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return a finite number from `low` to `high` (an open bound is excluded); refuse others."""
    bounds = f"{'(' if open_low or low == -math.inf else '['}{low:g}, {high:g}"
    bounds += ")" if open_high or high == math.inf else "]"
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value)
    inside = (number > low if open_low else number >= low) and (
        number < high if open_high else number <= high
    )
    if not (inside and math.isfinite(number)):
        raise _wrong(name, value, f"a number in {bounds}")
    return number


check_above_0 = partial(check_number, low=0, open_low=True)


check_from_0 = partial(check_number, low=0)


def check_integer(name: str, value: object, *, low: int = 1, high: int = 2**63 - 1) -> int:
    """Return an integer from `low` to `high`; refuse anything else."""
    number = None if isinstance(value, bool) or not isinstance(value, Integral) else int(value)
    if number is None or number < low:
        raise _wrong(name, value, f"an integer >= {low}")
    if number > high:
        raise _wrong(name, value, f"an integer <= {high}")
    return number


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return a name that is one of `choices`; refuse anything else."""
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        close = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
        raise _wrong(name, value, f"one of {known}", f"Did you mean {close[0]!r}?" if close else "")
    return str(value)


def check_size(name: str, value: object) -> tuple[int, int]:
    """Return a pair (H, W) of positive integers whose product torch can index; refuse others."""
    if isinstance(value, np.ndarray):
        value = list(value) if value.ndim else value
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise _wrong(name, value, "a pair (H, W)", f"Pass {name}=(height, width).")
    height, width = (check_integer(f"{name}[{i}]", side) for i, side in enumerate(value))
    if height * width > 2**31 - 1:
        raise InputError.of(
            name,
            got=f"{height} x {width} pixels",
            expected="fewer than 2**31",
            fix="Work on tiles of the image.",
        )
    return height, width


def check_names(name: str, value: object, classes: int | None = None) -> list[str]:
    """Return a list of strings in a known order, one per class; refuse anything else.

    Args:
        name: what errors call it.
        value: the names.
        classes: how many there are; any number but none if None.
    """
    names = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(names, (str, bytes)) or not isinstance(names, Sequence):
        got = reprlib.repr(value)  # a set has no order, and a generator no end
    elif not names or len(names) != (classes or len(names)):
        got = f"{len(names)} names"
    else:
        odd = [x for x in names if not isinstance(x, str)]
        if not odd:
            return [str(x) for x in names]
        got = f"{reprlib.repr(odd[0])} among them"
    raise InputError.of(
        name,
        got=got,
        expected=f"{classes or 'a list of'} strings, one per class",
        fix="Pass a list of names, in the order of the classes.",
    )


def is_listed(value: object) -> TypeGuard[Sequence[Any]]:
    """Tell whether a value has items in an order, as a list has, a set and a text have not.

    >>> is_listed(["a"]), is_listed("a"), is_listed({"a"})
    (True, False, False)
    """
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _wrong(name: str, value: object, expected: str, fix: str = "") -> InputError:
    """Make the error for a value that an option cannot have; a long value is shortened."""
    return InputError.of(
        name, got=reprlib.repr(value), expected=expected, fix=fix or f"Change {name}."
    )
