"""The one error that bad input raises, and warnings that point at the caller."""

from __future__ import annotations

import sys
import warnings

__all__ = ["InputError", "warn"]


class InputError(ValueError):
    """An argument that cannot be used; the message names it and says what to do.

    >>> raise InputError.of("k", got="0", expected="an integer >= 1", fix="Pass k=400.")
    Traceback (most recent call last):
    lpprop.InputError: k: got 0, expected an integer >= 1. Pass k=400.
    """

    @classmethod
    def of(cls, argument: str, *, got: str, expected: str, fix: str) -> InputError:
        """Build the message in the form that all errors share."""
        return cls(f"{argument}: got {got}, expected {expected}. {fix}")


def warn(message: str) -> None:
    """Warn, and point at the first line that is neither this package's nor PyTorch's."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _is_inside(module: str) -> bool:
    return module.partition(".")[0] in ("lpprop", "torch", "contextlib")


# Tracebacks show the name under which users catch it.
InputError.__module__ = "lpprop"
