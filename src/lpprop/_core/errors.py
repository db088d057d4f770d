"""The one error that bad input raises."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """An argument that cannot be used; the message names it and says what to do.

    >>> raise InputError.of("k", got="0", expected="an integer >= 1", fix="Pass k=400.")
    Traceback (most recent call last):
    lpprop.InputError: k: got 0, expected an integer >= 1. Pass k=400.
    """

    @classmethod
    def of(cls, argument: str, *, got: str, expected: str, fix: str) -> InputError:
        """Build the message in the one form that all of them have."""
        return cls(f"{argument}: got {got}, expected {expected}. {fix}")


# Tracebacks show the name under which users catch it.
InputError.__module__ = "lpprop"
