"""Scans of values: one per tensor and call, or none if they are turned off.

A scan reads a whole tensor, and waits for the GPU. So a tensor that has passed is not
scanned again in the same call, however many functions it goes through; and `value_checks(False)`,
or `LPPROP_CHECKS=0` in the environment, turns all scans off. Checks of shapes always run.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from lpprop._core.once import remember

__all__ = [
    "forget",
    "has_passed",
    "mark_passed",
    "one_call",
    "pass_on",
    "value_checks",
    "values_are_checked",
]

_SETTING = os.environ.get("LPPROP_CHECKS", "1").lower()
_enabled = ContextVar("lpprop_checks", default=_SETTING not in ("0", "false", "no", "off"))

# By check and id of a tensor: a weak reference, so that its memory can be freed, and its version.
_Passed = dict[tuple[str, int], tuple["weakref.ref[Tensor]", int]]
_passed: ContextVar[_Passed | None] = ContextVar("lpprop_passed", default=None)


@contextmanager
def value_checks(enabled: bool) -> Iterator[None]:
    """Turn the scans for NaN, infinity and values out of range off, or on again, within a block.

    Without them wrong values silently give wrong scores. `LPPROP_CHECKS=0` in the environment turns
    them off for a whole process. Shapes, types and options are always checked.

    Args:
        enabled: whether values are checked within the block.

    >>> import torch, lpprop
    >>> unknown = torch.full((1, 1, 1, 2), torch.nan)
    >>> with lpprop.value_checks(False):
    ...     lpprop.bilinear_upsample(unknown, (1, 4))
    tensor([[[[nan, nan, nan, nan]]]])
    """
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


def values_are_checked() -> bool:
    """Tell whether values are checked at this point."""
    return _enabled.get()


@contextmanager
def one_call() -> Iterator[None]:
    """Until the outermost of these blocks ends, remember what has passed and what was warned of."""
    if _passed.get() is not None:
        yield
        return
    passed = _passed.set({})
    try:
        with remember():
            yield
    finally:
        _passed.reset(passed)


def mark_passed(tensor: Tensor, check: str = "finite") -> None:
    """Remember that a tensor has passed a check, or would pass it because of how it was made."""
    passed = _passed.get()
    if passed is not None:
        passed[check, id(tensor)] = (weakref.ref(tensor), _version(tensor))


def pass_on(tensor: Tensor, result: Tensor) -> Tensor:
    """Mark parts or means of a tensor as having passed the same checks, and return them."""
    for check in ("finite", "image"):
        if has_passed(tensor, check):
            mark_passed(result, check)
    return result


def forget() -> None:
    """Forget what has passed, since foreign code ran, which may have written to any tensor."""
    (_passed.get() or {}).clear()


def has_passed(tensor: Tensor, check: str = "finite") -> bool:
    """Tell whether a tensor has passed a check in this call, and is unchanged since."""
    reference, version = (_passed.get() or {}).get((check, id(tensor)), (None, -1))
    return reference is not None and reference() is tensor and version == _version(tensor)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
